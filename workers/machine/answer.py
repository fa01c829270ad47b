"""The machine's answers to commands. Pure."""

from dataclasses import replace
from typing import Any

from domain.catalogue import Answer
from domain.decider import Decider
from domain.message import Recorded
from muster.wire.command import Envelope
from muster.wire.error import IdempotencyConflict, Refused, VersionConflict, WrongPartition
from muster.wire.problem import facts_of
from muster.wire.route import partition_of


def accepted(envelope: Envelope, partition: int, last: Recorded, incarnation: int | None) -> Answer:
    """The command has made events, of which this is the last."""
    return Answer(envelope.id, "accepted", partition, last.position, last.version, incarnation)


def unchanged(envelope: Envelope, partition: int, head: int, decider: Decider[Any, Any, Any], part: Any) -> Answer:
    """All is so already, as the log up to `head` says; `part` is what the command is about (None: it is gone)."""
    incarnation = None if part is None else decider.parts.incarnation(part)
    return Answer(envelope.id, "unchanged", partition, head, decider.parts.version(part), incarnation)


def refused(envelope: Envelope, partition: int, head: int, refusal: Refused) -> Answer:
    """The domain says no, having seen the log up to `head`."""
    return Answer(envelope.id, "refused", partition, head, error=facts_of(refusal))


def repeated(answer: Answer, *, same: bool) -> Answer:
    """The answer to a command id that has been answered before; `same`: for the same command."""
    if same:
        return replace(answer, duplicate=True)
    conflict = IdempotencyConflict(f"command id {answer.id} was used before, for another command", id=answer.id)
    return Answer(answer.id, "refused", answer.partition, answer.position, error=facts_of(conflict))


def check_place(stream: str, partition: int, partitions: int) -> None:
    """Raises WrongPartition when the stream lives in another one of the partitions."""
    due = partition_of(stream, partitions)
    if due != partition:
        detail = f"{stream} lives in partition {due} of {partitions}, not in {partition}: publish it there"
        raise WrongPartition(f"{detail}, by murmur2 of its root stream", partition=due)


def check_version(expected: int, actual: int | None, what: str) -> None:
    """Raises VersionConflict when the caller expects another version than there is."""
    if actual != expected:
        found = "not registered" if actual is None else f"at version {actual}"
        detail = f"{what} is {found}; version {expected} was expected"
        raise VersionConflict(detail, expected=expected, actual=actual)
