"""One call to one instance, from the moment it was picked.

with users.attempt() as attempt:
    answer = await session.get(f"http://{attempt.instance.endpoint}/users/1")
    attempt.answered(failed=answer.status >= 500)      # the time to the headers; it is under way until the block ends
    body = await answer.read()
"""

from asyncio import CancelledError
from collections.abc import Callable
from types import TracebackType
from typing import Self

from muster.balance.fleet import Candidate
from muster.balance.picker import OUTCOMES, CallOutcome, Picker
from muster.wire.error import InvalidCommand
from muster.wire.registry.answers import Instance


class Attempt:
    """A call under way to `instance`. It has to be ended: by its block, or by `end`.

    What became of it is recorded once, and only a failure can follow an answer. A block that ends in an error before it was
    `answered` has failed: overloaded if it is a TimeoutError, and not at all if the caller was cancelled. `outcome` is None until
    then. `sent`: whether something may have reached the instance. `began_at`: the instant of its pick, by the balancer's clock.
    """

    __slots__ = ("_candidate", "_clock", "_ended", "_picker", "_timed", "began_at", "instance", "outcome", "sent")

    def __init__(
        self, picker: Picker, candidate: Candidate, clock: Callable[[], float], began_at: float, timed: bool
    ) -> None:
        self._picker, self._candidate, self._clock = picker, candidate, clock
        self.began_at, self._timed, self._ended = began_at, timed, False
        self.instance: Instance = candidate.instance
        self.outcome: CallOutcome | None = None
        self.sent = True

    def answered(self, *, failed: bool = False, overloaded: bool = False) -> None:
        """Its answer has begun. `failed`: it says that the instance failed (a 5xx); `overloaded`: that there is too much."""
        self.record("overloaded" if overloaded else "failed" if failed else "ok")

    def failed(self, *, sent: bool = True) -> None:
        """It has failed, or its answer has broken off. `sent=False`: surely nothing has reached the instance."""
        self.sent = self.sent and sent
        self.record("failed")

    def record(self, outcome: CallOutcome) -> None:
        """What became of it; the first word counts, except that an answer may break off later."""
        # An "ok" at the headers says nothing of a body that breaks off later.
        if self.outcome is None or (self.outcome == "ok" and outcome in ("failed", "overloaded")):
            if outcome not in OUTCOMES:
                raise InvalidCommand(f"outcome: must be one of {', '.join(OUTCOMES)}", field="outcome")
            now = self._clock()
            self.outcome = outcome
            self._picker.record(self._candidate, outcome, now - self.began_at, now, self._timed)

    def end(self) -> None:
        """It is under way no more. Without a word about it before, it is taken to have been answered now."""
        # Blocks, callbacks of connections and callers may all say so: it counts once.
        if not self._ended:
            self._ended = True
            if self.outcome is None:
                self.record("ok")
            self._picker.end(self._candidate)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An error behind an answer is the caller's own: a body that it cannot read, a rule that it breaks.
        if error is not None and self.outcome is None:
            self.record(outcome_of(error))
        self.end()


def outcome_of(error: BaseException) -> CallOutcome:
    """What the error says of the call that it has ended."""
    if isinstance(error, TimeoutError):
        return "overloaded"
    # GeneratorExit, KeyboardInterrupt and SystemExit too: somebody gave up here, and nothing has failed there.
    return "failed" if isinstance(error, Exception) else "cancelled"


assert not issubclass(CancelledError, Exception), "a cancelled call is none that has failed"
