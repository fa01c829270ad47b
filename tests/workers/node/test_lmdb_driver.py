"""LMDB's driver keeps the promises of `ShardDriver`: three data nodes with their gRPC servers, in the shared suite."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.drivers.driver_contract import DriverContract
from tests.drivers.driver_stage import Nodes
from tests.workers.node.lmdb_node import LmdbNode


class TestLmdbDriver(DriverContract):
    @pytest.fixture
    async def nodes(self, tmp_path: Path) -> AsyncIterator[Nodes]:
        source, target, other = (LmdbNode(tmp_path / name, name) for name in ("n1", "n2", "n3"))
        async with AsyncExitStack() as stack:
            for node in (source, target, other):
                await node.start()
                stack.push_async_callback(node.kill)
            yield source, target, other
