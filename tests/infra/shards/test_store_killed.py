"""A process that writes is killed: what it acknowledged is there, and of each group all or nothing."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.shards.commits import Commits
from infra.shards.record import ShardWrite
from infra.shards.store import ShardStore
from muster.wire.error import NotReady
from muster.wire.shards.driver import ShardId, ShardLimits

SHARDS = [ShardId("users", number) for number in range(2)]
ROOT = Path(__file__).parents[3]
clients, keys_per_batch = 8, 5

pytestmark = pytest.mark.process


async def write_for_ever(path):
    """The child: each client writes batches of one number under all its keys, and tells which numbers were acknowledged."""
    store = ShardStore(path)
    for shard in SHARDS:
        store.open(shard, 1, ShardLimits())
    async with Commits(store) as commits:
        await asyncio.gather(*(write_batches(commits, client) for client in range(clients)))


async def write_batches(commits, client):
    shard = SHARDS[client % 2]
    for number in range(1, 1_000_000):
        value = str(number).encode() * 50
        results = await commits.batch(
            [
                ShardWrite(shard, 1, f"{client}-{key}", value, f"{client}-{key}-{number}")
                for key in range(keys_per_batch)
            ]
        )
        os.write(1, f"{client} {number} {results[-1].position}\n".encode())


@pytest.fixture
def child(tmp_path):
    command = [sys.executable, "-m", "tests.infra.shards.test_store_killed", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        yield child
        child.kill()


@pytest.mark.parametrize("acknowledged_min", [1, 40, 400])
def test_whatever_was_acknowledged_is_there_in_whole_groups(child, tmp_path, acknowledged_min):
    lines = [child.stdout.readline() for _ in range(acknowledged_min)]
    with pytest.raises(NotReady, match=f"process {child.pid}"):
        ShardStore(tmp_path)
    child.send_signal(signal.SIGKILL)
    lines += child.stdout.read().splitlines(keepends=True)
    acknowledged, positions = {}, dict.fromkeys(SHARDS, 0)
    for line in lines:
        if line.endswith(b"\n"):
            client, number, position = map(int, line.split())
            acknowledged[client] = number
            positions[SHARDS[client % 2]] = max(positions[SHARDS[client % 2]], position)
    child.wait()

    store = ShardStore(tmp_path)
    for client, number in acknowledged.items():
        shard = SHARDS[client % 2]
        found = {store.get(shard, 1, f"{client}-{key}").value for key in range(keys_per_batch)}
        assert found in ({str(number).encode() * 50}, {str(number + 1).encode() * 50})
        repeated = ShardWrite(shard, 1, f"{client}-0", b"", f"{client}-0-{number}")
        assert store.write([repeated])[0].duplicate
    for shard in SHARDS:
        record = store.record(shard)
        assert record.position >= positions[shard]
        assert record.position % keys_per_batch == 0
        assert record.extent == store.recompute(shard)
        assert [change.position for change in store.changes(shard, 0, bytes_max=1 << 30).changes] == list(
            range(1, record.position + 1)
        )
    store.close()


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1])))
