"""What a controller offers to its faces (HTTP, commands topic): execute, prove, read the past."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from domain.catalogue import Answer
from infra.log.port import Archive
from muster.wire.command import Envelope
from muster.wire.controllers import LiveController
from muster.wire.error import MusterError, NotReady, Refused, Timeout
from muster.wire.route import partition_of
from muster.wire.stream import service_stream
from muster.wire.telemetry.heartbeats import Heartbeats
from muster.wire.telemetry.observations import Observations
from workers.rules import Check, refusal
from workers.views.loads import Loads
from workers.views.views import Views
from workers.writer.beat_queue import Heard
from workers.writer.request import AnswerOrError

catch_up_seconds_max: Final = 5.0

CONDITION_KINDS: Final = (
    "corrupt",
    "failing",
    "stale",
    "stranger",
    "parked",
    "suspect",
    "unwatched",
    "lost",
    "blocked",
)
"""What may not be as it should be, the worst first: the kinds of `conditions` in `/v1/status`, and of `muster_conditions`."""


class Executor(Protocol):
    """One partition's writer, seen from its users."""

    def submit(self, envelope: Envelope) -> Awaitable[Answer]:
        """Queue the command at once, in the order of submission: decide, record and prove. A refusal is an answer.

        Raises NotReady, and when awaited NotReady or Timeout (outcome unknown).
        """

    def submit_all(self, envelopes: Sequence[Envelope]) -> Awaitable[list[AnswerOrError]]:
        """Queue them at once, all or none. Returns their replies, in their order. Raises NotReady."""

    def hear(self, messages: Sequence[Heartbeats]) -> Awaitable[Heard]:
        """Renew what these are about, all or none of them; who of each was refused. Raises NotReady, and Timeout when awaited."""

    async def prove(self) -> int:
        """The head position, proven to be the log's end at some moment after the call. Raises NotReady."""

    def knows(self, id_: str) -> bool:
        """Whether a command with this id has its answer already, as far as this controller has read the partition."""


PassOn = Callable[[Sequence[Observations]], Awaitable[None]]
"""Brings what clients saw to other controllers; what does not arrive is lost."""


async def to_nobody(_messages: Sequence[Observations]) -> None:
    """Where no other controller writes the log."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running controller. `status` gives `/v1/status`'s body; `check_output` the last output of an instance's checks;
    `controllers` those that share its log and live, itself among them (none: it has the log for itself).

    `policy` says what the settings of this controller refuse of a command, whoever gives it. `loads` are those of services, as
    telemetry tells them. `pass_on` brings what clients saw to the controllers that write those services.
    """

    cluster: str
    controller: str
    partitions: int
    views: Views
    executors: Mapping[int, Executor]
    archives: Mapping[int, Archive]
    status: Callable[[], dict[str, Any]]
    check_output: Callable[[str, str], dict[str, Any]]
    controllers: Callable[[], tuple[LiveController, ...]] = tuple
    policy: Callable[[Envelope, Views], Refused | None] = lambda envelope, views: None
    loads: Loads = field(default_factory=Loads)
    pass_on: PassOn = to_nobody

    def submit(self, envelope: Envelope) -> Awaitable[Answer]:
        """The answer of the writer of the command's partition; see `Executor.submit`. Not for faces: no rule is asked."""
        return self._executor(self.partition_of(envelope.stream)).submit(envelope)

    async def execute(self, envelope: Envelope, check: Check = refusal) -> Answer:
        """The answer to a command from outside. Raises what the check refuses, and as `submit` does."""
        (refused,) = await self._refused([envelope], check)
        if refused is not None:
            raise refused
        return await self.submit(envelope)

    async def execute_all(self, envelopes: Sequence[Envelope]) -> list[AnswerOrError]:
        """The replies to commands from outside, in their order; those of one partition are decided in it."""
        refused = await self.refusals(envelopes)
        given: dict[int, list[Envelope]] = {}
        for envelope, error in zip(envelopes, refused, strict=True):
            if error is None:
                given.setdefault(self.partition_of(envelope.stream), []).append(envelope)
        # All are queued before the first one is waited for.
        asked = {partition: self._submitted(partition, some) for partition, some in given.items()}
        replies = {partition: iter(one if isinstance(one, list) else await one) for partition, one in asked.items()}
        return [
            next(replies[self.partition_of(envelope.stream)]) if error is None else error
            for envelope, error in zip(envelopes, refused, strict=True)
        ]

    async def hear(self, messages: Sequence[Heartbeats]) -> Heard:
        """Of each message, the instances that were not heard, and why: those of a partition without a writer among them."""
        given: dict[int, list[Heartbeats]] = {}
        for message in messages:
            given.setdefault(self.partition_of(service_stream(message.service)), []).append(message)
        # One after the other they would wait for one another's writers, which may take seconds.
        heard = await asyncio.gather(*(self._heard(partition, some) for partition, some in given.items()))
        results = dict(zip(given, map(iter, heard), strict=True))
        return [next(results[self.partition_of(service_stream(message.service))]) for message in messages]

    async def _heard(self, partition: int, messages: Sequence[Heartbeats]) -> Heard:
        try:
            return await self._executor(partition).hear(messages)
        except MusterError as error:
            return [[(beat.instance, error) for beat in message.beats] for message in messages]

    async def observe(self, messages: Sequence[Observations]) -> int:
        """Take what clients saw here, and where the services are written; of how many instances it was taken here."""
        taken = self.take(messages)
        await self.pass_on(messages)
        return taken

    def take(self, messages: Sequence[Observations]) -> int:
        """Take what clients saw, of incarnations that are there; of how many instances it was. It goes to no writer, and no timer
        of an instance is touched by it.
        """
        return sum(self.loads.observe(message, self._incarnations(message.service)) for message in messages)

    def _incarnations(self, service: str) -> Callable[[str], int | None]:
        instances = self.views.instances.get(service, {})
        return lambda name: None if (found := instances.get(name)) is None else found.incarnation

    async def refusals(self, envelopes: Sequence[Envelope]) -> list[Refused | None]:
        """What the rules refuse of each command; every face asks this before a command is queued. Raises NotReady or Timeout.

        None is refused by views that are late: a command is refused for good, so the views first come to what the log holds now.
        """
        return await self._refused(envelopes, refusal)

    async def _refused(self, envelopes: Sequence[Envelope], check: Check) -> list[Refused | None]:
        found = [self._judged(envelope, check) for envelope in envelopes]
        # The usual case costs no proof. What late views let through is still checked by the partition or the saga.
        if not any(found):
            return found
        await self._catch_up()
        return [self._judged(envelope, check) for envelope in envelopes]

    def _judged(self, envelope: Envelope, check: Check) -> Refused | None:
        refused = check(envelope, self.views.shards) or self.policy(envelope, self.views)
        if refused is None:
            return None
        # Asked again under its id, a command has the answer that it had, whatever has become of its shard or node since.
        return None if self.knows(envelope.stream, envelope.id) else refused

    def knows(self, stream: str, id_: str) -> bool:
        """Whether a command for the stream with this id has its answer already; see `Executor.knows`."""
        executor = self.executors.get(self.partition_of(stream))
        return executor is not None and executor.knows(id_)

    async def _catch_up(self) -> None:
        # All of them: what a rule asks about nodes and shards may stand in any partition.
        partitions = range(self.partitions)
        try:
            async with asyncio.timeout(catch_up_seconds_max):
                heads = await asyncio.gather(*map(self.prove, partitions))
        except TimeoutError:
            raise Timeout(f"no writer proved its head within {catch_up_seconds_max:g} s; try again") from None
        await self.views.reach(dict(zip(partitions, heads, strict=True)), catch_up_seconds_max)

    def _submitted(
        self, partition: int, envelopes: Sequence[Envelope]
    ) -> Awaitable[list[AnswerOrError]] | list[AnswerOrError]:
        try:
            return self._executor(partition).submit_all(envelopes)
        except MusterError as error:
            # Only these fail: commands of other partitions in the same request are decided all the same.
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
