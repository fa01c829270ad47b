"""Moves without end between real processes, which are killed and stopped at random; and a source that sleeps through its move."""

import asyncio
import os
import secrets
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import pytest
from grpc.aio import AioRpcError

from examples.demo.stage import all_events
from examples.shards.journal import Journal
from muster import Client, Keyspace
from muster.keyspace.channel import NodeChannel, error_of
from muster.wire.error import Refused, Transient, VerbNotAllowed
from muster.wire.rpc import node_pb2
from muster.wire.shards.answers import Migration
from muster.wire.shards.key import shard_of
from tests.processes.shard_cluster import KEYSPACE, LEASE_SECONDS, ShardCluster, eventually, shard_cluster
from tests.servers import SharedKafka

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

SHARDS, FEW, SHARD = 12, 4, 2
REFUSALS: Final = {"DataUnavailable", "NotOwner", "StaleEpoch"}
NODES: Final = 4
MOVES_MAX: Final = 8
SLEEP_SECONDS: Final = 11.0
HOLD_SECONDS: Final = 40
TRAFFIC: Final = f"--per-second 120 --writers 12 --readers 3 --preload 600 --hold-seconds {HOLD_SECONDS}".split()
AWAY: Final = {
    "killed": (ShardCluster.kill, ShardCluster.start),
    "stopped": (ShardCluster.suspend, ShardCluster.resume),
}
"""How a process goes away, and how it comes back."""

seconds = float(os.environ.get("MUSTER_CHAOS_SECONDS", "18"))


class Fault(NamedTuple):
    """At so many seconds the process is killed, or stopped, and for so many seconds it is away."""

    at: float
    name: str
    what: str
    away: float

    def __str__(self) -> str:
        return f"{self.at:.1f} s: {self.name} is {self.what} for {self.away:.1f} s"


def faults(chance: Random, nodes: list[str], controllers: list[str]) -> list[Fault]:
    """As the dice fall: mostly of nodes; who is stopped sleeps through its lease, and one node through whole cut-overs."""
    sleeper = Fault(chance.uniform(1.0, seconds / 3), chance.choice(nodes), "stopped", SLEEP_SECONDS)
    found, at = [sleeper], 1.0
    while at < seconds:
        name = chance.choice(controllers if chance.random() < 0.25 else nodes)
        what, least, most = chance.choice((("killed", 0.0, 1.5), ("stopped", 1.2, 2.5)))
        found.append(Fault(at, name, what, chance.uniform(least, most) * LEASE_SECONDS))
        at += chance.uniform(0.4, 2.2)
    return sorted(found)


async def strike(cluster: ShardCluster, fault: Fault, away: set[str]) -> None:
    """One fault, from its beginning to its end; nothing if the process is away already."""
    await asyncio.sleep(fault.at)
    if fault.name in away:
        return
    away.add(fault.name)
    goes, comes = AWAY[fault.what]
    goes(cluster, fault.name)
    await asyncio.sleep(fault.away)
    comes(cluster, fault.name)
    await cluster.started(fault.name)
    away.remove(fault.name)


async def keep_moving(client: Client, chance: Random, nodes: list[str]) -> None:
    """Move any shard anywhere, a few at a time, some slowly; abort some."""
    while True:
        await asyncio.sleep(chance.uniform(0.05, 0.3))
        with suppress(Refused, Transient):
            running = [one for one in (await client.shards.migrations()).items if not one.ended]
            if len(running) < MOVES_MAX:
                await client.shards.move(
                    KEYSPACE,
                    chance.randrange(SHARDS),
                    chance.choice(nodes),
                    bytes_per_second=chance.choice((None, None, 50_000.0)),
                    soak_seconds=chance.choice((0.0, 0.2)),
                    cleanup_seconds=chance.choice((0.0, 0.2)),
                )
            elif chance.random() < 0.2:
                await client.shards.tell(chance.choice(running).id, "abort")


async def settled(client: Client) -> None:
    """Return when all migrations have ended and nothing is left to clean up; those that are blocked are told to try again."""

    async def ended() -> bool:
        going = [one for one in (await client.shards.migrations(limit=1000)).items if not one.ended]
        for one in going:
            if one.standing == "blocked":
                assert one.error, one
                with suppress(VerbNotAllowed):
                    await client.shards.tell(one.id, "retry")
        return not going and (await client.shards.keyspace(KEYSPACE)).cleanups == 0

    await eventually(ended, 60.0)


async def play(cluster: ShardCluster, seed: int) -> dict[str, Any]:
    """The whole history; what the checker says at its end."""
    chance = Random(seed)
    planned = faults(chance, cluster.nodes, cluster.controllers)
    print(f"MUSTER_CHAOS_SEED={seed} repeats these faults:", *planned, sep="\n  ")
    await cluster.open(SHARDS)
    cluster.start_traffic(*TRAFFIC, "--seed", str(seed))
    await cluster.started("traffic")
    async with cluster.client(cluster.controllers[-1]) as client:
        await client.shards.set_move_limits(node_moves_max=3, cluster_moves_max=MOVES_MAX)
        moving = asyncio.create_task(keep_moving(client, chance, cluster.nodes))
        away = set[str]()
        await asyncio.gather(*(strike(cluster, fault, away) for fault in planned))
        moving.cancel()
        await asyncio.wait([moving])
        assert moving.cancelled(), moving.exception()
        await settled(client)
    told = await cluster.end_traffic()
    found = await cluster.checked()
    print(told, found, sep="\n")
    assert told["failed"] == []
    return found


def seed() -> int:
    return int(os.environ.get("MUSTER_CHAOS_SEED", secrets.randbelow(1_000_000)))


async def test_nothing_is_lost_while_shards_move_and_processes_die(tmp_path: Path) -> None:
    async with shard_cluster(tmp_path, nodes=NODES) as cluster:
        found = await play(cluster, seed())
    assert found["breaches"] == []
    assert found["shards"] == SHARDS
    assert found["completed"] >= 3


@pytest.mark.kafka
async def test_nothing_is_lost_while_controllers_on_kafka_take_over_from_each_other(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    prefix = f"chaos-{secrets.token_hex(4)}"
    async with shard_cluster(tmp_path, nodes=NODES, kafka=kafka.bootstrap, prefix=prefix) as cluster:
        found = await play(cluster, seed())
    assert found["breaches"] == []
    assert found["shards"] == SHARDS
    assert found["completed"] >= 3


class Insistent:
    """A client that believes in one node: it puts key after key of one shard there, and keeps a journal of it."""

    def __init__(self, cluster: ShardCluster, node: str) -> None:
        self._journal = Journal(cluster.folder / "journals" / f"{node}.jsonl")
        self._channel = NodeChannel(cluster.address_of(node))
        self._keys = (f"{node}/{number}" for number in count() if shard_of(f"{node}/{number}", FEW) == SHARD)
        self.acknowledged = 0

    async def put(self, epoch: int = 0, timeout: float = 1.0) -> str | None:
        """Put the next key once; the refusal."""
        key = next(self._keys)
        named = node_pb2.Shard(keyspace=KEYSPACE, number=SHARD)
        request = node_pb2.PutRequest(shard=named, epoch=epoch, key=key, value=b"1", write_id=key)
        self._journal.note("write", key, key, 1, time.monotonic())
        try:
            done = await self._channel.put(request, timeout=timeout)
        except AioRpcError as failed:
            error = error_of(failed, self._channel.address)
            self._journal.note("failed", key, time.monotonic(), error.name)
            return error.name
        self._journal.note("done", key, time.monotonic(), SHARD, done.position, done.epoch)
        self.acknowledged += 1
        return None

    async def insist(self) -> None:
        """For ever."""
        while True:
            await self.put()
            await asyncio.sleep(0.005)


async def reached(client: Client, migration: str, *steps: str) -> Migration:
    """The migration, once it is at one of these steps, or has ended."""

    async def there() -> Migration | None:
        found = await client.shards.migration(migration)
        return found if found.ended or found.step in steps else None

    return await eventually(there)


async def held(cluster: ShardCluster, client: Client) -> str:
    """A move of the shard from n1 to n2 that waits at its gate, with the copy made."""
    await cluster.open(FEW, nodes=["n1"])
    started = await client.shards.move(KEYSPACE, SHARD, "n2", hold=True, soak_seconds=0.0, cleanup_seconds=0.0)
    assert started.migration is not None
    await reached(client, started.migration, "gate")
    return started.migration


@pytest.mark.parametrize("how", AWAY)
async def test_a_source_that_is_away_when_it_should_be_fenced_compares_itself_with_the_map_first(
    how: str, tmp_path: Path
) -> None:
    """Its lease is over, which is attested, and the move goes on by its disk: nothing may be acknowledged in between."""
    goes, comes = AWAY[how]
    async with shard_cluster(tmp_path, nodes=2) as cluster, cluster.client() as client:
        migration = await held(cluster, client)
        insistent = Insistent(cluster, "n1")
        insisting = asyncio.create_task(insistent.insist())

        async def served() -> bool:
            return insistent.acknowledged > 20

        await eventually(served)
        goes(cluster, "n1")
        waiting = [asyncio.create_task(insistent.put(epoch, 20.0)) for epoch in (0, 1) * 10]
        await client.shards.tell(migration, "resume")
        await reached(client, migration, "drain")
        assert "muster.cluster.node_silence_attested.v1" in {event.type for event in await all_events(client)}
        before = insistent.acknowledged
        comes(cluster, "n1")
        ended = await reached(client, migration)
        if ended.phase == "completed":  # else its start took longer than a cut-over may
            assert insistent.acknowledged == before
            assert {await one for one in waiting} <= (REFUSALS if how == "stopped" else {"Unreachable", "Timeout"})
        assert ended.phase == "completed" or how == "killed"
        insisting.cancel()
        found = await cluster.checked()
    assert found["breaches"] == []
    assert found["writes"] == insistent.acknowledged


async def test_a_source_that_sleeps_behind_its_fence_wakes_up_to_refusals(tmp_path: Path) -> None:
    async with shard_cluster(tmp_path, nodes=2) as cluster, cluster.client() as client:
        migration = await held(cluster, client)
        insistent = Insistent(cluster, "n1")

        async def served() -> bool:
            # On a busy machine the node's lease may be over for a moment, and it then says so.
            return await insistent.put() is None

        await eventually(served)
        await client.shards.tell(migration, "resume")
        await reached(client, migration, "drain", "commit", "activate", "publish")
        cluster.suspend("n1")
        waiting = [asyncio.create_task(insistent.put(epoch, 30.0)) for epoch in (0, 1) * 10]
        async with Keyspace(KEYSPACE, cluster.url(), hold_seconds=20.0) as keyspace:
            key = next(f"k{number}" for number in count() if shard_of(f"k{number}", FEW) == SHARD)
            assert (await keyspace.put(key, b"1")).epoch == 2
            await keyspace.delete(key)
        cluster.resume("n1")
        assert {await one for one in waiting} <= REFUSALS
        assert (await reached(client, migration)).phase == "completed"
        assert {await insistent.put(), await insistent.put(1)} == {"NotOwner"}
        found = await cluster.checked()
    assert found["breaches"] == []
    assert found["writes"] == 1
