"""What waits at a writer: commands that were given together, or the wish for a proof of its reign."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from typing import Any

from domain.catalogue import Answer
from muster.wire.command import Envelope
from muster.wire.error import MusterError

Told = Answer | MusterError
"""What becomes of a command: its answer, or why there is none."""

Result = Callable[[list[Told], int], Any]
"""What the future brings, of what became of the commands and of the head's position."""


@dataclass(slots=True, eq=False)
class Request:
    """Commands that are decided in their order, by one group or by several; none: a proof of the reign is wanted.

    One future for all of them: one each would take a twentieth of the time of a list. `told` is what may leave already; of the
    first `tried` commands only the log knows what became of them. `offsets` are their places in their commands partition.
    """

    envelopes: Sequence[Envelope]
    future: asyncio.Future[Any]
    result: Result
    offsets: Sequence[int] | None = None
    told: list[Told] = field(default_factory=list)
    tried: int = 0

    @property
    def size(self) -> int:
        """How much of the queue it takes."""
        return len(self.envelopes) or 1

    def undecided(self, most: int) -> Iterable[tuple[Envelope, int | None]]:
        """The next commands, up to `most`, with their offsets."""
        first = len(self.told)
        return islice(zip(self.envelopes, self.offsets or repeat(None), strict=False), first, first + most)

    def sent(self, count: int) -> None:
        """So many more commands may be in the log or not: the append that holds them has failed."""
        self.tried = max(self.tried, len(self.told) + count)

    def answered(self, answers: Sequence[Answer], position: int) -> bool:
        """Take the answers to the next commands, which may leave now; whether it was the last of them."""
        if self.tried > len(self.told):  # What an append of ours has recorded after all is no repeat of the caller's.
            answers = [
                own(answer) if index < self.tried else answer for index, answer in enumerate(answers, len(self.told))
            ]
        self.told += answers
        if len(self.told) < len(self.envelopes):
            return False
        if not self.future.done():
            self._settle(self.told, position)
        return True

    def fail(self, error: MusterError) -> None:
        """Whatever has no answer yet gets none, for this reason."""
        if self.future.done():
            return
        if self.envelopes:
            self._settle([*self.told, *[error] * (len(self.envelopes) - len(self.told))], -1)
        else:
            self.future.set_exception(error)

    def _settle(self, told: list[Told], position: int) -> None:
        try:
            self.future.set_result(self.result(told, position))
        except MusterError as error:
            self.future.set_exception(error)


def only(told: list[Told], _position: int) -> Answer:
    """The answer to a command that was given alone. Raises what is there instead."""
    return answer_of(told[0])


def every(told: list[Told], _position: int) -> list[Told]:
    """The answers to a list of commands."""
    return told


def head(_told: list[Told], position: int) -> int:
    """The position that a proof brings."""
    return position


def answer_of(told: Told) -> Answer:
    """The answer. Raises what there is instead."""
    if isinstance(told, MusterError):
        raise told
    return told


def own(answer: Answer) -> Answer:
    """The answer as who gave the command first is told."""
    return replace(answer, duplicate=False) if answer.duplicate else answer
