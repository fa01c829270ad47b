"""Reads all pairs of a shard; continues after the last key when the shard changes its node meanwhile."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from grpc.aio import EOF, AioRpcError

from muster.keyspace.channel import error_of
from muster.keyspace.gate import knock_seconds
from muster.keyspace.router import ShardRouter
from muster.keyspace.shard_map import Place
from muster.wire.error import MusterError, Timeout
from muster.wire.rpc import node_pb2


async def scan_shard(router: ShardRouter, shard: int) -> AsyncGenerator[tuple[str, bytes], None]:
    """The shard's pairs in key order. Raises errors that no retry can mend, and DataUnavailable after too long without one."""
    loop = asyncio.get_running_loop()
    after, tries, ends_at = "", 0, loop.time() + router.hold_seconds
    while True:
        place = router.map[shard]
        try:
            async with aclosing(_parts(router, place, after)) as parts:
                async for pairs in parts:
                    for pair in pairs:
                        yield pair.key, pair.value
                        after = pair.key
                    # The time begins anew with each part: it limits how long a scan waits, not how long it takes.
                    tries, ends_at = 0, loop.time() + router.hold_seconds
            return
        except MusterError as error:
            router.heed(place, error)
            if loop.time() >= ends_at:
                raise router.ended(shard, error, None, False) from error
        if not place.is_behind(router.map[shard]):
            await router.gates.pause((shard,), knock_seconds(tries))
            tries += 1


async def _parts(router: ShardRouter, place: Place, after: str) -> AsyncGenerator[Any, None]:
    """The pairs in one node's stream, beginning after the key."""
    shard = node_pb2.Shard(keyspace=router.keyspace, number=place.shard)
    call = router.channel(place).scan(node_pb2.ScanRequest(shard=shard, epoch=place.epoch, after=after))
    try:
        while True:
            try:
                async with asyncio.timeout(router.attempt_seconds):
                    part = await call.read()
            except (AioRpcError, asyncio.CancelledError) as error:
                raise error_of(error, place.address) from error
            except TimeoutError:
                raise Timeout(f"{place.address} gave no answer in time", address=place.address) from None
            if part is EOF:
                return
            yield part.pairs
    finally:
        call.cancel()
