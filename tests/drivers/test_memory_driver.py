"""The store in memory keeps the same promises: the suite knows nothing of LMDB."""

import re
from pathlib import Path
from typing import Any

import pytest

from muster.wire.shards.driver import Extent, Location, ShardDriver, ShardId
from tests.drivers.driver_contract import DriverContract
from tests.drivers.driver_stage import Nodes
from tests.drivers.memory_driver import Disk, MemoryNode, Network


class InMemory:
    """A node whose disk is a dictionary that outlives it."""

    def __init__(self, name: str, network: Network) -> None:
        self.location = Location(name, f"{name}:7400")
        self.network = network
        self.disk: Disk = {}
        self.node = MemoryNode(self.location, self.disk, network)

    @property
    def driver(self) -> ShardDriver:
        return self.node

    async def put(self, shard: ShardId, key: str, value: bytes, write_id: str = "") -> int:
        return self.node.put(shard, key, value, write_id)

    async def delete(self, shard: ShardId, key: str, write_id: str = "") -> int:
        return self.node.delete(shard, key, write_id)

    async def get(self, shard: ShardId, key: str) -> bytes | None:
        return self.node.get(shard, key)

    async def extent(self, shard: ShardId) -> Extent:
        return self.node.extent(shard)

    async def damage(self, shard: ShardId, key: str) -> None:
        pairs = self.disk[shard].pairs
        assert pairs is not None
        pairs[key] = bytes([pairs[key][0] ^ 4]) + pairs[key][1:]

    def sent_bytes(self) -> int:
        return self.node.sent_bytes

    async def kill(self) -> None:
        self.node.kill()

    async def start(self) -> None:
        self.node = MemoryNode(self.location, self.disk, self.network)


class TestMemoryDriver(DriverContract):
    @pytest.fixture
    def nodes(self) -> Nodes:
        network = Network()
        return InMemory("n1", network), InMemory("n2", network), InMemory("n3", network)


def documented(name: str) -> Any:
    """What a block of Python in docs/drivers.md defines by this name."""
    text = (Path(__file__).parents[2] / "docs/drivers.md").read_text(encoding="utf-8")
    defined: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/drivers.md", "exec"), defined)
    return defined[name]


async def test_the_documented_move_moves_the_shard() -> None:
    assert await documented("move")() == b"written meanwhile"


def test_the_documented_suite_is_the_suite() -> None:
    joined = documented("TestYourDriver")
    assert issubclass(joined, DriverContract)
    assert vars(joined).keys() - vars(type("", (), {})).keys() == {"nodes"}
