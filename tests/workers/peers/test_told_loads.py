"""What a data node tells one controller of its shards, the others on the same Kafka know as well."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from secrets import token_hex
from typing import Any

import aiohttp
import pytest

from muster import Client
from muster.wire.route import partition_of
from muster.wire.shards.answers import MoveWeights
from muster.wire.stream import CLUSTER
from muster.wire.telemetry.shard_loads import ShardLoads
from tests.processes.process_on_kafka import controllers
from tests.processes.shard_cluster import eventually
from tests.servers import SharedKafka
from tests.workers.http.cluster import node

READS = {"n1": 10.0, "n2": 500.0, "n3": 3.0}
"""What the nodes tell of the one shard that each has, in reads per second."""

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


async def test_a_drain_weighs_what_nodes_have_told_to_another_controller(kafka: SharedKafka, tmp_path: Path) -> None:
    async with (
        controllers(tmp_path, kafka.bootstrap, f"l{token_hex(4)}", 2) as both,
        Client(both[0].url) as one,
        Client(both[1].url) as other,
    ):
        # Who writes the cluster's partition plans the drain. The nodes speak with the other one alone.
        planner, listener = (one, other) if await writes_the_cluster(one) else (other, one)
        wanted = sorted([(shard, name, READS[name]) for name, shard in (await served(listener)).items()])
        assert await told_to(planner, wanted) == wanted

        async def opened() -> bool:
            return (await planner.shards.keyspace("users")).active == len(READS)

        await eventually(opened)
        await listener.shards.set_mark("n1", "drain")
        async with asyncio.timeout(20), aclosing(listener.shards.watch_migrations()) as changes:
            move = await anext(moves[0] async for moves in changes if moves)
        assert (move.source, move.target) == ("n1", "n3")
        assert move.weighed == MoveWeights(shard=11.0, source=11.0, target=4.0)


async def served(listener: Client) -> dict[str, int]:
    """Three nodes, which speak with this controller: they serve a shard each, and tell its load. The shards by their nodes."""
    async with aiohttp.ClientSession() as session:

        async def ask(method: str, path: str, body: object = None) -> dict[str, Any]:
            async with session.request(method, f"{listener.url}/v1/{path}", json=body) as answer:
                assert answer.status == 200, await answer.text()
                told: dict[str, Any] = await answer.json()
                return told

        joined = {name: (await ask("PUT", f"nodes/{name}", node(name)))["incarnation"] for name in READS}
        await listener.shards.create_keyspace("users", len(READS), nodes=list(READS))
        for task in (await ask("GET", "tasks?consistency=strong"))["items"]:
            await ask("POST", "tasks", {"node": task["node"], "reports": [{"id": task["id"], "outcome": "done"}]})
        owned = {str(shard.owner): shard.shard for shard in (await listener.shards.shard_map("users")).items}
        for name, reads in READS.items():
            keyspaces = {"users": [[owned[name], reads, 0.0, 100]]}
            await ask("POST", f"nodes/{name}/loads", {"incarnation": joined[name], "keyspaces": keyspaces})
        return owned


async def writes_the_cluster(client: Client) -> bool:
    """Whether this controller writes the partition of the data nodes."""
    partitions = (await client.status())["partitions"]
    return bool(partitions[partition_of(CLUSTER, len(partitions))]["state"] == "reigning")


async def told_to(client: Client, wanted: list[tuple[int, str, float]]) -> list[tuple[int, str, float | None]]:
    """What the controller knows once that is what is wanted, or after 10 s."""
    found = ShardLoads()
    for _ in range(50):
        found = await client.shard_loads("users")
        if len(found.shards) == len(wanted):
            break
        await asyncio.sleep(0.2)
    return [(load.shard, load.node, load.reads_per_second) for load in found.shards]
