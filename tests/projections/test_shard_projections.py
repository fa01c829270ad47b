"""The read models of shards, data nodes and migrations follow whole moves, and agree with the domain's own states."""

from pathlib import Path
from typing import Any

from domain.message import Recorded
from domain.saga import SagaUpgraded
from domain.shards.node import CordonNode, RemoveNode
from infra.log.codec import CloudEventMapper
from infra.log.port import START
from infra.sqlite.engine import open_embedded
from projections.data_nodes import DATA_NODES
from projections.migrations import MIGRATIONS
from projections.projection import Key, Projection
from projections.shards import SHARDS
from tests.workers.sagas.participants import controller


def folded(projection: Projection[Any], events: list[Recorded]) -> dict[Key, Any]:
    rows: dict[Key, Any] = {}
    for recorded in events:
        key = projection.touched(recorded)
        if key is not None:
            row = projection.fold(rows.get(key), recorded)
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row
    return rows


async def recorded_of(data: Path) -> list[Recorded]:
    mapper, found = CloudEventMapper(), list[Recorded]()
    async with open_embedded(data, read_only=True) as engine:
        [log] = engine.logs.values()
        async for batch in log.read(START):
            found += [mapper.recorded(0, position, document) for position, document in batch.records]
    return found


async def test_rows_of_whole_moves_agree_with_the_domains_states(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2", "n3")
        await those.keyspace("users", 4, "n1")
        moved = await those.move("users", 1, "n2")
        await those.until(lambda: those.saga(moved).ended)
        those.silent = {"copy"}
        under_way = await those.move("users", 2, "n2")
        await those.until(lambda: those.saga(under_way).step == "copy")
        await those.give("cluster", CordonNode(node="n2"))
        await those.give("cluster", RemoveNode(node="n3"))
        keyspace, nodes, sagas = those.views.keyspaces["users"], those.views.cluster.nodes, dict(those.views.sagas)
        migrations = dict(those.views.migrations)
    events = await recorded_of(tmp_path)

    assert {key: (row.owner, row.epoch, row.status, row.migration) for key, row in folded(SHARDS, events).items()} == {
        ("users", str(shard.id)): (shard.owner, shard.epoch, shard.status, shard.migration)
        for shard in keyspace.shards.values()
    }
    assert {key: row for (key,), row in folded(DATA_NODES, events).items()} == dict(nodes)
    assert folded(MIGRATIONS, events) == migrations
    assert {key: (row.phase, row.step) for (key,), row in folded(MIGRATIONS, events).items()} == {
        id_: (saga.phase, saga.step) for id_, saga in sagas.items()
    }


async def test_a_move_that_goes_on_by_a_newer_definition_says_so(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 1, "n1")
        those.silent = {"copy"}
        moved = await those.move("users", 0, "n2")
        await those.until(lambda: those.saga(moved).step == "copy")
    events = await recorded_of(tmp_path)
    row = folded(MIGRATIONS, events)[(moved,)]
    upgraded = events[-1]._replace(stream=moved, event=SagaUpgraded(version=2))
    after = MIGRATIONS.fold(row, upgraded)
    assert (row.version, after.version, after.step) == (1, 2, row.step)
