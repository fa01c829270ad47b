"""The floor for the copying of a move: the same bytes through the same streams into LMDB, asked of the driver directly.

    python -m benchmarks.floors.copier SOURCE KEYSPACE SHARD EPOCH FOLDER

A data node that no controller knows copies the shard from the node at SOURCE. Prints JSON: seconds, bytes, share of a core.
"""

import sys
import time
from pathlib import Path

import orjson
import uvloop

from muster.wire.shards.driver import CopyLimits, Location, ShardId
from workers.node.node import NodeServer


async def run(source: str, shard: ShardId, epoch: int, folder: Path) -> dict[str, object]:
    """Copy the shard."""
    async with NodeServer(folder, "copier") as node:
        await node.driver.prepare(shard, epoch + 1)
        cpu, began = time.process_time(), time.perf_counter()
        extent = await node.driver.copy(shard, Location("source", source), CopyLimits(), lambda _: None)
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "bytes": extent.bytes,
            "records": extent.records,
            "core_percent": (time.process_time() - cpu) / seconds * 100,
        }


if __name__ == "__main__":
    _, at, keyspace, number, of_epoch, into = sys.argv
    told = uvloop.run(run(at, ShardId(keyspace, int(number)), int(of_epoch), Path(into)))
    print(orjson.dumps(told).decode())
