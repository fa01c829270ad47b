"""Messages to a data node that none of its keyspaces allows: refused before they are read."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from muster.wire.rpc import node_pb2
from muster.wire.rpc.node_pb2_grpc import ShardNodeStub
from tests.hostile.limits.attacked import delay_seconds_max, slack_seconds

pytestmark = pytest.mark.process

SERVER = """
import asyncio, sys
from pathlib import Path
from workers.node.node import NodeServer

async def main():
    async with NodeServer(Path(sys.argv[1]), "n1") as node:
        print(node.address, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
SHARD = node_pb2.Shard(keyspace="users", number=0)
UNLIMITED = [("grpc.max_send_message_length", -1)]


def peak(process: "subprocess.Popen[str]") -> int:
    """The most memory that the process has had, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None, "the node is gone"
    return int(found[1]) * 1024


def started(folder: Path) -> "subprocess.Popen[str]":
    """A data node of its own process."""
    command = [sys.executable, "-c", SERVER, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})


async def described(address: str) -> float:
    """How long another client waits for an answer."""
    async with grpc.aio.insecure_channel(address) as channel:
        began = asyncio.get_running_loop().time()
        with pytest.raises(grpc.aio.AioRpcError):
            await ShardNodeStub(channel).Describe(node_pb2.DescribeRequest(shard=SHARD), timeout=10)  # type: ignore[no-untyped-call]
        return asyncio.get_running_loop().time() - began


async def refuses(address: str, size: int) -> None:
    """A client of its own is refused a value of this size."""
    async with grpc.aio.insecure_channel(address, options=UNLIMITED) as channel:
        put = node_pb2.PutRequest(shard=SHARD, epoch=1, key="a", value=b"x" * size)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ShardNodeStub(channel).Put(put, timeout=30)  # type: ignore[no-untyped-call]
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (refused.value.details() or "")


@pytest.mark.parametrize(
    ("size", "at_once", "times"),
    [
        pytest.param(150 << 20, 1, 1, id="which no keyspace allows"),
        pytest.param(60 << 20, 4, 3, id="which another keyspace could allow, many"),
    ],
)
async def test_messages_that_no_keyspace_of_the_node_allows_take_little_and_hold_nobody_up(
    tmp_path: Path, size: int, at_once: int, times: int
) -> None:
    with started(tmp_path) as process:
        try:
            assert process.stdout is not None
            address = (await asyncio.to_thread(process.stdout.readline)).strip()
            await described(address)
            before = peak(process)
            for _ in range(times):
                await asyncio.gather(*(refuses(address, size) for _ in range(at_once)))
            assert await described(address) < delay_seconds_max + slack_seconds
            # gRPC reads ahead on each connection, the more of it the busier the machine is. Messages that are read stand in
            # memory as a whole, and once more as what they are made into.
            assert peak(process) - before < at_once * size
        finally:
            process.kill()
