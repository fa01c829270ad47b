"""A keyspace's client: values by key, on whichever node their shard is at the moment.

    async with muster.Keyspace("users", url="http://127.0.0.1:8740") as users:
        await users.put("alice", b"one")
        assert await users.get("alice") == b"one"
        async for key, value in users.scan():
            ...
        results = await users.batch([Put("bob", b"two"), Get("alice"), Delete("carol")])

It routes by the shard map that it watches, and learns from the nodes' refusals when they are newer. While a shard is being
handed over, or its node is away, calls are held back for up to `hold_seconds` and tried again, writes with the same write
id: their callers see latency, not errors.

Promised: a put or delete that has returned is durable, and was applied once. Calls on one key that one caller awaits one
after the other are applied in that order, and a batch keeps the order of its operations on each key. A get sees what was written
before it was called. After a `Timeout` the outcome is unknown: repeat the write with its `write_id` to settle it.

Not promised: any order between calls that run at the same time, or between keys; that a batch, or a scan over several shards,
is of one moment; that a write which ended in an error is not applied, even after a later one (unless it is settled first);
that a write id is remembered for ever (a shard keeps the newest 100,000).
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Final, Self

import orjson

from muster.client.transport import Transport, path_of
from muster.durations import seconds_from
from muster.keyspace.batch import OperationResult, Pending, run
from muster.keyspace.channel import NodeChannel
from muster.keyspace.gate import Held
from muster.keyspace.operation import Applied, Delete, Get, KeyspaceStatistics, Operation, Put
from muster.keyspace.router import NodeCall, ShardRouter
from muster.keyspace.scan import scan_shard
from muster.keyspace.shard_map import Place
from muster.wire import DEFAULT_URL
from muster.wire.command import new_id
from muster.wire.error import InvalidCommand, ShardOverflow
from muster.wire.rpc import node_pb2
from muster.wire.shards.key import shard_of

WRITE_ID_BYTES_MAX: Final = 64


class Keyspace:
    """A keyspace's client; use it as `async with Keyspace(name, url) as users`. Opening raises KeyspaceNotFound.

    `url`, of one controller or of several, and `cluster` are as for `muster.Client`.

    `hold_seconds` is longer than the 10 s after which a cut-over is aborted, so that callers do not even see that.
    It bounds each call with all its retries, `attempt_seconds` each try, `timeout_seconds` the opening. Calls
    that are held back are refused at once beyond `held_operations_max` and `held_bytes_max` (keys and values).

    A call raises InvalidShardKey and ShardOverflow; NoShardsAvailable when no shard has an owner; DataUnavailable when
    nobody served its shard in time, or there is no room to hold it; Timeout when a write's outcome is unknown.
    """

    def __init__(
        self,
        name: str,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        hold_seconds: float = 15.0,
        attempt_seconds: float = 2.0,
        held_operations_max: int = 10_000,
        held_bytes_max: int = 64 << 20,
        timeout_seconds: float = 10.0,
        cluster: str | None = None,
    ) -> None:
        self.name = name
        self._transport = Transport(url, actor=None, timeout_seconds=timeout_seconds, cluster=cluster)
        self._held = Held(held_operations_max, held_bytes_max)
        self._times = {
            "hold_seconds": seconds_from(hold_seconds, "hold_seconds", least=0),
            "attempt_seconds": seconds_from(attempt_seconds, "attempt_seconds"),
        }
        self._opened: ShardRouter | None = None
        self._value_bytes_max: int | None = None
        self._longest_write_seconds = 0.0

    async def __aenter__(self) -> Self:
        await self._transport.open()
        self._opened = ShardRouter(self.name, held=self._held, **self._times)
        try:
            # Strong: the keyspace may have been created a moment ago, by a client whose token is not known here.
            facts = orjson.loads(await self._transport.read(path_of("keyspaces", self.name), {}, "strong"))
            self._value_bytes_max = facts.get("value_bytes_max")
            await self._opened.open(self._transport)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._opened is not None:
            await self._opened.close()
        await self._transport.close()

    async def put(self, key: str, value: bytes, *, write_id: str | None = None) -> Applied:
        """Set the key's value."""
        router, shard = self._route(key)
        self._check_value(value)
        id_ = _write_id(write_id)
        named = node_pb2.Shard(keyspace=self.name, number=shard)

        def attempt(channel: NodeChannel, epoch: int, seconds: float) -> Any:
            request = node_pb2.PutRequest(shard=named, epoch=epoch, key=key, value=value, write_id=id_)
            return channel.put(request, timeout=seconds)

        return await self._write(router, shard, attempt, len(key) + len(value), id_)

    async def delete(self, key: str, *, write_id: str | None = None) -> Applied:
        """Remove the key; one that is not there is fine."""
        router, shard = self._route(key)
        id_ = _write_id(write_id)
        named = node_pb2.Shard(keyspace=self.name, number=shard)

        def attempt(channel: NodeChannel, epoch: int, seconds: float) -> Any:
            request = node_pb2.DeleteRequest(shard=named, epoch=epoch, key=key, write_id=id_)
            return channel.delete(request, timeout=seconds)

        return await self._write(router, shard, attempt, len(key), id_)

    async def get(self, key: str) -> bytes | None:
        """The key's value, or None when it has none."""
        router, shard = self._route(key)
        named = node_pb2.Shard(keyspace=self.name, number=shard)

        def attempt(channel: NodeChannel, epoch: int, seconds: float) -> Any:
            return channel.get(node_pb2.GetRequest(shard=named, epoch=epoch, key=key), timeout=seconds)

        found = await router.call(shard, attempt, len(key))
        return found.value if found.found else None

    async def batch(self, operations: Iterable[Operation]) -> list[OperationResult]:
        """The operations' results in their order: Applied, a value or None, or the error that one ended with.

        Each node gets one stream of its operations. Those on one key are applied in their order, for which a key costs
        a stream for each of its writes; so a batch is quick when its keys differ. Only what was refused is tried
        again; an operation is given up `hold_seconds` after its first refusal. Raises InvalidShardKey, ShardOverflow
        and InvalidCommand before anything is sent.
        """
        router = self._router
        return await run(router, [self._pending(operation) for operation in operations])

    async def scan(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """All keys and values: shard by shard, in key order within each, as of one moment in each.

        When a shard moves meanwhile, the rest of it is as of a later moment.
        """
        router = self._router
        for shard in range(router.map.shards):
            async with aclosing(scan_shard(router, shard)) as pairs:
                async for pair in pairs:
                    yield pair

    def route(self, key: str) -> Place:
        """The key's shard, and who serves it with which epoch, as far as this client knows. Raises InvalidShardKey."""
        router, shard = self._route(key)
        return router.map[shard]

    @property
    def statistics(self) -> KeyspaceStatistics:
        """What this client has gone through so far."""
        retries = dict(self._opened.retries) if self._opened is not None else {}
        held = self._held
        return KeyspaceStatistics(
            retries, self._longest_write_seconds, held.operations, held.bytes, held.operations_most
        )

    @property
    def _router(self) -> ShardRouter:
        if self._opened is None:
            raise RuntimeError("the keyspace is not open: use `async with Keyspace(…)`")
        return self._opened

    def _route(self, key: str) -> tuple[ShardRouter, int]:
        router = self._router
        return router, shard_of(key, router.map.shards)

    async def _write(
        self, router: ShardRouter, shard: int, attempt: NodeCall[Any], size: int, write_id: str
    ) -> Applied:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        written = await router.call(shard, attempt, size, write_id)
        self._longest_write_seconds = max(self._longest_write_seconds, loop.time() - began_at)
        return Applied(shard, written.position, written.epoch, write_id, written.duplicate)

    def _check_value(self, value: bytes) -> None:
        most = self._value_bytes_max
        if most is not None and len(value) > most:
            raise ShardOverflow(
                f"the value has {len(value)} bytes; {self.name} takes {most}", keyspace=self.name, value_bytes_max=most
            )

    def _pending(self, operation: Operation) -> Pending:
        _, shard = self._route(operation.key)
        named, key = node_pb2.Shard(keyspace=self.name, number=shard), operation.key
        match operation:
            case Put(_, value, write_id):
                self._check_value(value)
                id_ = _write_id(write_id)
                message = node_pb2.PutRequest(shard=named, key=key, value=value, write_id=id_)
                return Pending(operation, message, shard, len(key) + len(value), id_)
            case Delete(_, write_id):
                id_ = _write_id(write_id)
                return Pending(
                    operation, node_pb2.DeleteRequest(shard=named, key=key, write_id=id_), shard, len(key), id_
                )
            case Get():
                return Pending(operation, node_pb2.GetRequest(shard=named, key=key), shard, len(key), None)


def _write_id(given: str | None) -> str:
    if given is None:
        return new_id()
    if not 0 < len(given.encode()) <= WRITE_ID_BYTES_MAX:
        raise InvalidCommand(f"write_id: must have 1 to {WRITE_ID_BYTES_MAX} bytes in UTF-8", field="write_id")
    return given
