"""What a controller offers to its faces (HTTP, commands topic): execute, prove, read the past."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from domain.catalogue import Answer
from infra.log.port import Archive
from muster.wire.command import Envelope
from muster.wire.error import MusterError, NotReady
from muster.wire.route import partition_of
from workers.views.views import Views
from workers.writer.request import AnswerOrError


class Executor(Protocol):
    """One partition's writer, seen from its users."""

    def submit(self, envelope: Envelope) -> Awaitable[Answer]:
        """Queue the command at once, in the order of submission: decide, record and prove. A refusal is an answer.

        Raises NotReady, and when awaited NotReady or Timeout (outcome unknown).
        """

    def submit_all(self, envelopes: Sequence[Envelope]) -> Awaitable[list[AnswerOrError]]:
        """Queue them at once, all or none. Returns their replies, in their order. Raises NotReady."""

    async def prove(self) -> int:
        """The head position, proven to be the log's end at some moment after the call. Raises NotReady."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running controller. `status` gives `/v1/status`'s body; `check_output` the last output of an instance's checks."""

    cluster: str
    controller: str
    partitions: int
    views: Views
    executors: Mapping[int, Executor]
    archives: Mapping[int, Archive]
    status: Callable[[], dict[str, Any]]
    check_output: Callable[[str, str], dict[str, Any]]

    def submit(self, envelope: Envelope) -> Awaitable[Answer]:
        """The answer of the writer of the command's partition; see `Executor.submit`."""
        return self._executor(self.partition_of(envelope.stream)).submit(envelope)

    async def execute_all(self, envelopes: Sequence[Envelope]) -> list[AnswerOrError]:
        """The replies to the commands, in their order; those of one partition are decided in that order."""
        partitions = [self.partition_of(envelope.stream) for envelope in envelopes]
        given: dict[int, list[Envelope]] = {}
        for partition, envelope in zip(partitions, envelopes, strict=True):
            given.setdefault(partition, []).append(envelope)
        # All are queued before the first one is waited for.
        asked = {partition: self._submitted(partition, some) for partition, some in given.items()}
        told = {partition: iter(one if isinstance(one, list) else await one) for partition, one in asked.items()}
        return [next(told[partition]) for partition in partitions]

    def _submitted(
        self, partition: int, envelopes: Sequence[Envelope]
    ) -> Awaitable[list[AnswerOrError]] | list[AnswerOrError]:
        try:
            return self._executor(partition).submit_all(envelopes)
        except MusterError as error:
            return [error] * len(envelopes)

    async def prove(self, partition: int) -> int:
        """The partition's proven head; see `Executor.prove`."""
        return await self._executor(partition).prove()

    def partition_of(self, stream: str) -> int:
        """The partition of a stream."""
        return partition_of(stream, self.partitions)

    def _executor(self, partition: int) -> Executor:
        executor = self.executors.get(partition)
        if executor is None:
            raise NotReady(f"partition {partition} is not written by this controller; ask another one, or wait")
        return executor
