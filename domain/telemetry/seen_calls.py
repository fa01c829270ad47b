"""What the calls that clients tell of come to, together: those to a service, and those to each of its instances."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from muster.wire.telemetry.loads import SeenInstance, ServiceLoad

seen_max: Final = 50
"""Of so many instances of a service it is told what clients saw."""

Incarnation = tuple[str, int]
"""An instance, and which one of that name."""


class CallSum:
    """Calls while they are added up, one word of a client after the other; `words` are how many there were."""

    __slots__ = ("answer_seconds", "attempts", "failed", "timed", "words")

    def __init__(self) -> None:
        self.words = 0
        self.attempts = self.failed = self.timed = self.answer_seconds = 0.0

    def add(self, attempts: int, failures: int, latency_seconds: float | None, seconds: float) -> None:
        """So many calls in so many seconds."""
        self.words += 1
        self.attempts += attempts / seconds
        self.failed += failures / seconds
        if latency_seconds is not None:
            answers = (attempts - failures) / seconds
            self.timed += answers
            self.answer_seconds += latency_seconds * answers

    def seen_by(self, observers: int) -> "SeenCalls":
        """The sum, as so many observers have seen it."""
        latency = self.answer_seconds / self.timed if self.timed else None
        return SeenCalls(observers, self.attempts, self.failed, latency)


class SeenCalls(NamedTuple):
    """The calls to a service, or to an instance, as clients saw them together; `latency_seconds` None: no answer was timed."""

    observers: int
    per_second: float
    failed_per_second: float
    latency_seconds: float | None

    def and_those(self, other: "SeenCalls") -> "SeenCalls":
        """These and those of other observers."""
        mine, theirs = self.per_second - self.failed_per_second, other.per_second - other.failed_per_second
        timed = [(one, by) for one, by in ((self, mine), (other, theirs)) if one.latency_seconds is not None and by > 0]
        total = sum(by for _, by in timed)
        return SeenCalls(
            self.observers + other.observers,
            self.per_second + other.per_second,
            self.failed_per_second + other.failed_per_second,
            sum((one.latency_seconds or 0.0) * by for one, by in timed) / total if timed else None,
        )

    @property
    def failure_share(self) -> float:
        """How many of them failed; 1.0 is all."""
        return round(self.failed_per_second / self.per_second, 4) if self.per_second else 0.0

    @property
    def told_latency(self) -> float | None:
        """The latency to the microsecond."""
        return None if self.latency_seconds is None else round(self.latency_seconds, 6)

    def in_row(self, row: ServiceLoad) -> ServiceLoad:
        """The row with what clients saw in it, beside what it says of them already."""
        told = calls_of(row)
        found = self if told is None else self.and_those(told)
        return replace(
            row,
            observers=found.observers,
            attempts_per_second=round(found.per_second, 3),
            failure_share=found.failure_share,
            latency_seconds=found.told_latency,
        )


def calls_of(row: ServiceLoad | SeenInstance) -> SeenCalls | None:
    """What the row says of clients; None: nothing."""
    if row.observers is None or row.attempts_per_second is None:
        return None
    failed = row.attempts_per_second * (row.failure_share or 0.0)
    return SeenCalls(row.observers, row.attempts_per_second, failed, row.latency_seconds)


def instance_rows(
    seen: Mapping[Incarnation, SeenCalls], in_flight: Callable[[str, int], float | None]
) -> tuple[SeenInstance, ...]:
    """The rows of the instances that were seen, up to 50: those that fail most first, then the slowest. `in_flight` says what an
    instance says of itself.
    """
    # Cut where the well ones stand: whoever looks here looks for those that are not.
    worst = sorted(seen.items(), key=_badness, reverse=True)[:seen_max]
    return tuple(
        SeenInstance(
            instance=name,
            incarnation=incarnation,
            observers=calls.observers,
            attempts_per_second=round(calls.per_second, 3),
            failure_share=calls.failure_share,
            latency_seconds=calls.told_latency,
            in_flight=in_flight(name, incarnation),
        )
        for (name, incarnation), calls in worst
    )


def _badness(seen: tuple[Incarnation, SeenCalls]) -> tuple[float, float]:
    calls = seen[1]
    # Not the share that is told: of tens of thousands of instances each is looked at here, and few are told.
    return calls.failed_per_second / calls.per_second if calls.per_second else 0.0, calls.latency_seconds or 0.0
