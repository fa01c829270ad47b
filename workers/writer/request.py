"""What waits at a writer: commands that were given together, or the wish for a proof of its reign."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from typing import Any

from domain.catalogue import Answer
from muster.wire.command import Envelope
from muster.wire.error import MusterError

AnswerOrError = Answer | MusterError
"""What becomes of a command: its answer, or why there is none."""


@dataclass(slots=True, eq=False)
class QueuedCommands:
    """Commands that are decided in their order, by one group or by several; no commands: a proof of the reign is wanted.

    They share one future, because one each would be slow for long lists. `result` makes its value from the replies and
    the head's position. `replies` holds those that may leave already; the commands before `tried` were sent to the log in
    an append that failed, so only the log knows what became of them. `offsets` are their places in the commands topic.
    `patient`: they are a few signs of life, whose answers may wait for others a moment.
    """

    envelopes: Sequence[Envelope]
    future: asyncio.Future[Any]
    result: Callable[[list[AnswerOrError], int], Any]
    offsets: Sequence[int] | None = None
    replies: list[AnswerOrError] = field(default_factory=list)
    tried: int = 0
    patient: bool = False

    @property
    def size(self) -> int:
        """How much room it takes in the queue."""
        return len(self.envelopes) or 1

    def undecided(self, most: int) -> Iterable[tuple[Envelope, int | None]]:
        """The next commands, up to `most`, with their offsets."""
        first = len(self.replies)
        return islice(zip(self.envelopes, self.offsets or repeat(None), strict=False), first, first + most)

    def sent(self, count: int) -> None:
        """An append with the next `count` commands has failed: they may be in the log or not."""
        self.tried = max(self.tried, len(self.replies) + count)

    def answered(self, answers: Sequence[Answer], position: int) -> bool:
        """Add the answers to the next commands, which may leave now. Returns whether all are answered."""
        if self.tried > len(self.replies):
            # The log may have had a command from our own failed append: that is no repeat by the caller.
            answers = [
                first_answer(answer) if index < self.tried else answer
                for index, answer in enumerate(answers, len(self.replies))
            ]
        self.replies += answers
        if len(self.replies) < len(self.envelopes):
            return False
        if not self.future.done():
            self._settle(self.replies, position)
        return True

    def fail(self, error: MusterError) -> None:
        """Answer with the error every command that has no reply yet."""
        if self.future.done():
            return
        if self.envelopes:
            self._settle([*self.replies, *[error] * (len(self.envelopes) - len(self.replies))], -1)
        else:
            self.future.set_exception(error)

    def _settle(self, replies: list[AnswerOrError], position: int) -> None:
        try:
            self.future.set_result(self.result(replies, position))
        except MusterError as error:
            self.future.set_exception(error)


Taken = list[tuple[QueuedCommands, int]]
"""Requests, each with how many of its commands are given to a group."""


def answered(taken: Taken, answers: Sequence[Answer]) -> Iterator[tuple[QueuedCommands, Sequence[Answer]]]:
    """The requests that a group has come to, each with the answers to those of its commands that were decided in it."""
    first = 0
    for request, given in taken:
        own = answers[first : first + given]
        yield request, own
        first += given
        if len(own) < given:  # The group was full: what comes after waits for the next one.
            return


def only(replies: list[AnswerOrError], _position: int) -> Answer:
    """The answer to a command that was given alone. Raises its error."""
    return answer_of(replies[0])


def every(replies: list[AnswerOrError], _position: int) -> list[AnswerOrError]:
    """The replies to a list of commands."""
    return replies


def head(_replies: list[AnswerOrError], position: int) -> int:
    """The position that a proof brings."""
    return position


def answer_of(reply: AnswerOrError) -> Answer:
    """The answer. Raises the error."""
    if isinstance(reply, MusterError):
        raise reply
    return reply


def first_answer(answer: Answer) -> Answer:
    """The answer as it is when the command was given for the first time."""
    return replace(answer, duplicate=False) if answer.duplicate else answer
