"""A data node in this process, with a client of it: as the drivers' suite needs it, and for the node's own tests."""

import asyncio
import math
from pathlib import Path
from typing import Any

import grpc
import pytest

from infra.shards.copy import prefix
from infra.shards.store import ShardStore
from muster.wire.error import ShardNotFound, WriteFailed
from muster.wire.rpc import node_pb2, node_pb2_grpc
from muster.wire.rpc.problem import error_of
from muster.wire.shards.driver import Extent, Location, ShardId
from workers.node.lmdb_driver import LmdbDriver
from workers.node.node import NodeServer


class LmdbNode:
    """A data node in this process, and a client of it."""

    def __init__(self, path: Path, name: str, **options: Any) -> None:
        self.path, self.name = path, name
        self.options = {"patience_seconds": 1.0, **options}
        self.listen = "127.0.0.1:0"

    async def start(self) -> None:
        self.node = NodeServer(self.path, self.name, listen=self.listen, **self.options)
        await self.node.__aenter__()
        self.node.serve_until(math.inf)
        self.listen = self.node.address
        self.channel = grpc.aio.insecure_channel(self.listen, options=[("grpc.max_receive_message_length", -1)])
        self.stub = node_pb2_grpc.ShardNodeStub(self.channel)

    async def kill(self) -> None:
        await self.channel.close()
        await self.node.__aexit__()

    @property
    def driver(self) -> LmdbDriver:
        return self.node.driver

    @property
    def location(self) -> Location:
        return self.node.location

    async def put(self, shard: ShardId, key: str, value: bytes, write_id: str = "") -> int:
        request = node_pb2.PutRequest(shard=wire(shard), key=key, value=value, write_id=write_id)
        return (await self._call(self.stub.Put, request)).position

    async def delete(self, shard: ShardId, key: str, write_id: str = "") -> int:
        request = node_pb2.DeleteRequest(shard=wire(shard), key=key, write_id=write_id)
        return (await self._call(self.stub.Delete, request)).position

    async def get(self, shard: ShardId, key: str) -> bytes | None:
        found = await self._call(self.stub.Get, node_pb2.GetRequest(shard=wire(shard), key=key))
        return found.value if found.found else None

    async def extent(self, shard: ShardId) -> Extent:
        record = self.node.store.record(shard)
        if record is None or not record.copy:
            raise ShardNotFound(f"no copy of {shard} is here")
        return record.extent

    async def damage(self, shard: ShardId, key: str) -> None:
        record, environment = self.node.store.record(shard), self.node.store._env
        assert record is not None
        stored = prefix(record.copy) + key.encode()

        def flip(transaction: Any) -> None:
            value = bytearray(transaction.get(stored, db=environment.pairs))
            value[len(value) // 2] ^= 4
            transaction.put(stored, bytes(value), db=environment.pairs)

        await asyncio.to_thread(environment.write, flip)

    def sent_bytes(self) -> int:
        return self.node.giving.sent_bytes

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await method(request)
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed, self.listen) from failed


def wire(shard: ShardId) -> node_pb2.Shard:
    """The shard in a request."""
    return node_pb2.Shard(keyspace=shard.keyspace, number=shard.shard)


def leave_no_space(monkeypatch: pytest.MonkeyPatch, store: ShardStore) -> None:
    """From now on, writes that leave pairs in the store fail as on a full disk, and leave nothing."""
    environment = store._env
    writing = environment.write

    def full(work: Any) -> Any:
        def bounded(transaction: Any) -> Any:
            result = work(transaction)
            if transaction.stat(environment.pairs)["entries"] > 0:
                raise WriteFailed("the store cannot write: No space left on device")
            return result

        return writing(bounded)

    monkeypatch.setattr(environment, "write", full)
