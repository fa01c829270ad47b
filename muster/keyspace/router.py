"""Brings a call to the node that serves its shard: the map, the channels, and the waiting.

A refusal that names a newer owner is followed at once. After any other failure that may pass (a shard being handed over, a
node that is gone) the call waits at the shard's gate and is tried again, until `hold_seconds` are over.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeVar

from grpc.aio import AioRpcError

from muster.client.channels import Channels
from muster.client.event_stream import follow
from muster.client.transport import Transport, path_of
from muster.keyspace.channel import NodeChannel, error_of
from muster.keyspace.gate import Gates, Held
from muster.keyspace.shard_map import Place, ShardMap
from muster.wire.error import (
    DataUnavailable,
    KeyspaceNotFound,
    MusterError,
    NoShardsAvailable,
    NotOwner,
    ShardNotFound,
    StaleEpoch,
    Timeout,
    Transient,
    Uncertain,
    WriteFailed,
)

WATCH_AGAIN_SECONDS: Final = 1.0
T = TypeVar("T")
# (channel, epoch, timeout in seconds) -> the answer; called again for each try.
NodeCall = Callable[[NodeChannel, int, float], Awaitable[T]]
_LOG: Final = logging.getLogger(__name__)


class ShardRouter:
    """Routes calls to the shards of one keyspace, between `open` and `close`."""

    def __init__(self, keyspace: str, *, hold_seconds: float, attempt_seconds: float, held: Held) -> None:
        self.keyspace = keyspace
        self.hold_seconds = hold_seconds
        self.attempt_seconds = attempt_seconds
        self.held = held
        self.map = ShardMap()
        self.gates = Gates()
        self.channels = Channels(NodeChannel, grace_seconds=attempt_seconds)
        self.retries: Counter[str] = Counter()
        self._watching: asyncio.Task[None] | None = None
        self._watch_trouble: MusterError | None = None
        self._closed = False

    async def open(self, transport: Transport) -> None:
        """Watch the map, from its first snapshot on. Raises KeyspaceNotFound, Unreachable."""
        begun = asyncio.get_running_loop().create_future()
        self._watching = asyncio.create_task(self._watch(transport, begun))
        await asyncio.wait((begun, self._watching), return_when=asyncio.FIRST_COMPLETED)
        # The watch has ended before its first event: this raises its error.
        if not begun.done():
            await self._watching

    async def close(self) -> None:
        """Close the channels; calls that are held back end with an error."""
        # Set before the gates open, so that the calls which come out of them end, and do not try once more.
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self.gates.open_all()
        await self.channels.close()

    async def call(self, shard: int, attempt: NodeCall[T], size: int, write_id: str | None = None) -> T:
        """The answer of the node that serves the shard. `size` counts while the call is held; with `write_id` it is a write."""
        ends_at = asyncio.get_running_loop().time() + self.hold_seconds
        tried, trouble = None, None
        # With a closed gate the call queues at once: others before it have found that no node serves the shard.
        if not self.gates.closed(shard):
            tried = self.map[shard]
            try:
                return await self._try(tried, attempt, min(self.attempt_seconds, self.hold_seconds))
            except MusterError as error:
                self.heed(tried, error)
                trouble = error
        full = self.held.take(size)
        if full is not None:
            raise self.ended(shard, trouble, write_id, is_outcome_unknown(trouble), full)
        try:
            return await self._call_held(shard, attempt, ends_at, tried, trouble, write_id)
        finally:
            self.held.give(size)

    async def _call_held(
        self,
        shard: int,
        attempt: NodeCall[T],
        ends_at: float,
        tried: Place | None,
        trouble: MusterError | None,
        write_id: str | None,
    ) -> T:
        loop, gate = asyncio.get_running_loop(), self.gates.at(shard)
        unknown = is_outcome_unknown(trouble)
        while True:
            at_once = tried is not None and tried.is_behind(self.map[shard])
            turn = "open" if at_once else await gate.turn(ends_at)
            seconds = min(self.attempt_seconds, ends_at - loop.time())
            if turn == "over" or seconds <= 0 or self._closed:
                raise self.ended(shard, trouble, write_id, unknown)
            tried = self.map[shard]
            try:
                return await self._try(tried, attempt, seconds)
            except MusterError as error:
                self.heed(tried, error)
                # Once a try may have been applied, the outcome stays unknown, whatever the next tries say of
                # themselves.
                trouble, unknown = error, unknown or is_outcome_unknown(error)
            finally:
                # Also when this call was cancelled: only one call knocks at a time, and without this none would ever
                # again.
                if turn == "knock":
                    gate.knocked()

    async def _try(self, place: Place, attempt: NodeCall[T], seconds: float) -> T:
        channel = self.channel(place)
        try:
            answer = await attempt(channel, place.epoch, seconds)
        except (AioRpcError, asyncio.CancelledError) as error:
            raise error_of(error, place.address) from error
        if self.gates.closed(place.shard):
            self.gates.open(place.shard)
        return answer

    def channel(self, place: Place) -> NodeChannel:
        """The channel to the place. Raises NoShardsAvailable, or DataUnavailable when it is only this shard."""
        if place.address:
            return self.channels.at(place.address)
        if not self.map.addresses:
            why = f"; {self.keyspace}/{place.shard}: {place.cause}" if place.cause else ""
            raise NoShardsAvailable(
                f"no shard of {self.keyspace} has an owner that serves it{why}", keyspace=self.keyspace
            )
        raise DataUnavailable(f"{self.keyspace}/{place.shard}: {place.cause or 'it has no owner'}")

    def heed(self, tried: Place, error: MusterError) -> None:
        """Count the failure and learn from it, or raise it when trying again cannot help."""
        if not isinstance(error, Transient | NotOwner | StaleEpoch | ShardNotFound):
            raise error
        self.retries[error.name] += 1
        if isinstance(error, NotOwner | StaleEpoch):
            facts = error.context
            epoch, owner, address = facts.get("epoch"), str(facts.get("owner", "")), str(facts.get("address", ""))
            if isinstance(epoch, int) and self.map.learn(tried.shard, epoch, owner, address):
                self._map_changed(frozenset((tried.shard,)))

    def ended(
        self, shard: int, trouble: MusterError | None, write_id: str | None, unknown: bool, why: str | None = None
    ) -> MusterError:
        """The error of a call that was not answered in time."""
        if isinstance(self._watch_trouble, KeyspaceNotFound):
            return self._watch_trouble
        why = why or ("the client was closed" if self._closed else f"nobody served it within {self.hold_seconds:g} s")
        detail = f"{self.keyspace}/{shard}: {why}" + (f"; last: {trouble.detail}" if trouble is not None else "")
        place = self.map[shard]
        # Unless what was tried last has said it already.
        if place.cause and place.cause not in detail:
            detail += f"; {place.cause}"
        facts: dict[str, str | int | None] = {"keyspace": self.keyspace, "shard": shard}
        facts |= {"epoch": place.epoch, "owner": place.owner or None, "write_id": write_id}
        if write_id is not None and unknown:
            detail = f"the outcome is unknown, retry with the write id {write_id}: {detail}"
            return Timeout(detail, **facts)
        return DataUnavailable(detail, **facts)

    async def _watch(self, transport: Transport, begun: asyncio.Future[None]) -> None:
        path, query = path_of("watch", "shards"), {"keyspace": self.keyspace}
        while True:
            try:
                async with aclosing(follow(transport, path, query, self.map.take, math.inf)) as changes:
                    async for freed in changes:
                        self._watch_trouble = None
                        self._map_changed(freed)
                        if not begun.done():
                            begun.set_result(None)
            except MusterError as error:
                # Before the first snapshot there is no map to work with; after it, calls go on with the map as it was.
                if not begun.done():
                    raise
                _LOG.warning("the shard map of %s cannot be watched any more: %s", self.keyspace, error.detail)
                self._watch_trouble = error
                await asyncio.sleep(WATCH_AGAIN_SECONDS)

    def _map_changed(self, freed: frozenset[int]) -> None:
        for shard in freed:
            self.gates.open(shard)
        self.channels.keep(self.map.addresses)


def is_outcome_unknown(error: MusterError | None) -> bool:
    """Whether a write that ended with this error may have been applied, or may still be."""
    return isinstance(error, Timeout | WriteFailed | Uncertain)
