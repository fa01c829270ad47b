"""What a balancer has seen of each instance since it was last asked. Pure.

The calls themselves only count, on and on. What is new is found here, by taking away what was told before: once in seconds, and
not with every call.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from muster.balance.fleet import Candidate
from muster.wire.telemetry.observations import Observation


class _Told(NamedTuple):
    """The counts of an incarnation as they were told last."""

    answers: int
    failures: int
    untimed: int
    answer_seconds: float


_NOTHING: Final = _Told(0, 0, 0, 0.0)


class Tally:
    """What was told of the instances of one balancer, by instance and incarnation."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, int], _Told] = {}

    def news(self, candidates: Iterable[Candidate]) -> list[Observation]:
        """What there is to tell of these now; nothing of one to which no call has ended. It counts as told then."""
        before, self._told = self._told, {}
        return list(self._news(candidates, before))

    def _news(self, candidates: Iterable[Candidate], before: dict[tuple[str, int], _Told]) -> Iterator[Observation]:
        for each in candidates:
            now = _Told(each.answers, each.failures, each.untimed, each.answer_seconds)
            # Only of those that are there now: what is kept here is no longer than the list.
            self._told[each.key] = now
            was = before.get(each.key, _NOTHING)
            answers, failures = now.answers - was.answers, now.failures - was.failures
            if not answers + failures:
                continue
            timed = answers - (now.untimed - was.untimed)
            # A sum of so many is off by its last digits, and must not come out below nothing.
            latency = max(0.0, now.answer_seconds - was.answer_seconds) / timed if timed else None
            yield Observation(
                each.instance.instance,
                each.instance.incarnation,
                answers + failures,
                failures,
                each.failing,
                None if latency is None else round(latency, 6),
            )
