"""What a data node tells one controller of its shards, the others on the same Kafka know as well."""

import asyncio
from pathlib import Path
from secrets import token_hex

import aiohttp
import pytest

from muster import Client
from muster.wire.telemetry.shard_loads import ShardLoads
from tests.processes.process_on_kafka import controllers
from tests.servers import SharedKafka
from tests.workers.http.cluster import node

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(120)]


async def test_all_controllers_know_of_the_shards_of_all_nodes(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix = f"l{token_hex(4)}"
    async with (
        controllers(tmp_path, kafka.bootstrap, prefix, 2) as (first, second),
        aiohttp.ClientSession() as session,
        Client(first.url) as one,
        Client(second.url) as other,
    ):
        for name, controller, reads in (("n1", first, 5.0), ("n2", second, 7.0)):
            async with session.put(f"{controller.url}/v1/nodes/{name}", json=node(name)) as joined:
                incarnation = (await joined.json())["incarnation"]
            told = {"incarnation": incarnation, "keyspaces": {"users": [[int(name[1:]), reads, 1.0, 10]]}}
            async with session.post(f"{controller.url}/v1/nodes/{name}/loads", json=told) as heard:
                assert heard.status == 200, await heard.text()
        wanted = [(1, "n1", 5.0), (2, "n2", 7.0)]
        assert [await told_to(client, wanted) for client in (one, other)] == [wanted, wanted]
        assert (await one.shard_loads()).nodes == (await other.shard_loads()).nodes


async def told_to(client: Client, wanted: list[tuple[int, str, float]]) -> list[tuple[int, str, float | None]]:
    """What the controller knows once that is what is wanted, or after 10 s."""
    found = ShardLoads()
    for _ in range(50):
        found = await client.shard_loads("users")
        if len(found.shards) == len(wanted):
            break
        await asyncio.sleep(0.2)
    return [(load.shard, load.node, load.reads_per_second) for load in found.shards]
