"""What keyspaces need while no saga asks for it, where the answers to what was given are slow."""

import asyncio
from dataclasses import replace

from immutables import Map

from domain.catalogue import Answer
from domain.shards.keyspace import MoveShard
from domain.shards.shard import Keyspace, Shard
from muster.wire.command import Envelope
from muster.wire.shards.driver import ShardLimits
from sagas.placement import Weights
from tests.sagas.draining.test_drain import cluster
from tests.sample import NOON
from workers.sagas.upkeep import Upkeep
from workers.views.shards import ShardViews


async def test_while_a_move_off_a_node_is_on_its_way_no_other_one_of_the_shard_is_begun_however_loads_change() -> None:
    given, answers = list[Envelope](), asyncio.Event()
    weights: Weights = {("users", 0): 5.0, ("users", 1): 100.0, ("users", 2): 200.0}

    async def submit(envelope: Envelope) -> Answer:
        given.append(envelope)
        await answers.wait()
        return Answer(id=envelope.id, status="accepted", partition=0, position=1)

    views = ShardViews()
    shards = {number: Shard(number, 1, f"n{number + 1}", "active") for number in range(3)}
    keyspace = Keyspace(1, 3, ShardLimits(), Map(shards), Map())
    views.keyspaces = {"users": keyspace}
    views.cluster = replace(views.cluster, nodes=cluster(n1={"draining": True}, n2={}, n3={}).nodes)
    upkeep = Upkeep(lambda stream, command: None, submit, views, lambda: weights)
    upkeep.follow("keyspace/users", keyspace)

    async def look_around() -> list[str]:
        upkeep.look_around((), NOON)
        await asyncio.sleep(0)
        return [command.target for envelope in given if isinstance(command := envelope.command, MoveShard)]

    assert await look_around() == ["n2"]
    weights = {**weights, ("users", 1): 300.0}
    assert await look_around() == ["n2"]
    answers.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await look_around() == ["n2", "n3"]
    weights = {**weights, ("users", 2): 210.0}
    await asyncio.sleep(0)
    assert await look_around() == ["n2", "n3", "n3"]
    assert len({envelope.id for envelope in given}) == 3, "one id has one content"
