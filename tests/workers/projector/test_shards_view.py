"""The view of shards in PostgreSQL says of each whether anybody serves it, as all other readers do."""

from dataclasses import replace
from itertools import product
from typing import get_args

import pytest

from domain.shards import cluster
from domain.shards.node import NodeJoined, NodeLost, NodeRemoved, NodeReturned
from domain.shards.shard import (
    KeyspaceCreated,
    ShardMoveStarted,
    ShardOpened,
    ShardPinSet,
    ShardsAssigned,
    Status,
)
from infra.postgres.store import ReadStore
from muster.wire.stream import CLUSTER, keyspace_stream
from projections.availability import cause_of, is_unavailable
from projections.catalogue import PROJECTIONS
from projections.data_nodes import DATA_NODES
from projections.shards import SHARDS
from tests.workers.projector.test_projector import caught_up, sql
from tests.workers.writer.history import MAPPER, History, Told
from workers.audit.replay import replay

pytestmark = pytest.mark.postgres

USERS = keyspace_stream("users")
MOVE = f"{USERS}/migration/1"
SHOWN = "SELECT shard_number, unavailable, cause FROM muster.shards ORDER BY shard_number"


def joined(node: str) -> Told:
    return CLUSTER, NodeJoined(
        node=node, address="10.0.0.1:1", zone="", capacity=1.0, lease_seconds=5.0, process="p", store=f"disk-{node}"
    )


def lost(node: str) -> Told:
    return CLUSTER, NodeLost(node=node, incarnation=0, lease_seconds=5.0)


async def three_shards() -> History:
    """Shard 0 is n1's, 1 moves from n1 to n2, 2 is n2's, and 3 was pinned before n3 has opened it."""
    history = History()
    await history.add(joined("n1"), joined("n2"))
    await history.add(
        (USERS, KeyspaceCreated(shards=4, value_bytes_max=1, shard_bytes_max=1)),
        (USERS, ShardsAssigned(node="n1", shards=(0, 1))),
        (USERS, ShardsAssigned(node="n2", shards=(2,))),
        (USERS, ShardOpened(shard=0, node="n1", epoch=1)),
        (USERS, ShardOpened(shard=1, node="n1", epoch=1)),
        (USERS, ShardOpened(shard=2, node="n2", epoch=1)),
        (USERS, ShardPinSet(shard=3)),
        (USERS, ShardMoveStarted(shard=1, migration=MOVE, epoch=1, source="n1", target="n2")),
    )
    return history


async def test_a_shard_whose_owner_serves_nothing_is_unavailable_and_says_why(database: str) -> None:
    history = await three_shards()
    async with ReadStore(database) as store:
        await caught_up(store, history)
        assert await sql(database, SHOWN) == [(number, False, None) for number in range(4)]
        await history.add(lost("n1"), (CLUSTER, NodeRemoved(node="n2")))
        await caught_up(store, history)
        lapsed, gone = "the lease of its owner n1 has run out", "its owner n2 is not in the cluster"
        assert await sql(database, SHOWN) == [(0, True, lapsed), (1, True, lapsed), (2, True, gone), (3, False, None)]
        await history.add((CLUSTER, NodeReturned(node="n1")))
        await caught_up(store, history)
        assert await sql(database, "SELECT shard FROM muster.shards WHERE unavailable") == [("2",)]


async def test_sql_says_what_the_other_readers_say(database: str) -> None:
    history = await three_shards()
    await history.add(lost("n1"))
    nodes = cluster.INITIAL
    for recorded in history.recorded:
        nodes = cluster.evolve(nodes, recorded) if recorded.stream == CLUSTER else nodes
    statuses: tuple[Status, ...] = get_args(Status)
    async with ReadStore(database) as store:
        await caught_up(store, history)
    for owner, status in product((None, "n1", "n2", "n3"), statuses):
        await sql(database, f"UPDATE muster.shards_r{SHARDS.revision} SET owner = $1, status = $2", owner, status)
        cause = cause_of(owner, nodes)
        found = await sql(database, "SELECT DISTINCT unavailable, cause FROM muster.shards")
        assert found == [(is_unavailable(status, cause), cause)], (owner, status)


async def test_a_shards_number_joins_that_of_its_migrations(database: str) -> None:
    history = await three_shards()
    async with ReadStore(database) as store:
        await caught_up(store, history)
    joining = "SELECT count(*) FROM muster.shards s LEFT JOIN muster.migrations m ON s.shard_number = m.shard"
    assert await sql(database, joining) == [(4,)]


async def test_a_replay_of_shards_alone_knows_nothing_of_their_owners(database: str) -> None:
    history = await three_shards()
    await history.add(lost("n1"))
    async with ReadStore(database, schema="past") as store:
        await replay([history.log], MAPPER, projections=(SHARDS,), into=store)
    assert await sql(database, "SELECT DISTINCT unavailable, cause FROM past.shards") == [(None, None)]


async def test_another_table_of_data_nodes_is_joined_once_it_is_shown(database: str) -> None:
    history = await three_shards()
    await history.add(lost("n1"))
    newer = replace(DATA_NODES, revision=99)
    async with ReadStore(database) as store:
        await caught_up(store, history)
        await caught_up(store, history, tuple(newer if one is DATA_NODES else one for one in PROJECTIONS))
    assert await sql(database, "SELECT shard FROM muster.shards WHERE unavailable ORDER BY 1") == [("0",), ("1",)]
    assert await sql(database, f"SELECT to_regclass('muster.data_nodes_r{DATA_NODES.revision}')::text") == [(None,)]


async def test_a_view_of_an_older_muster_is_given_the_columns_that_it_does_not_have(database: str) -> None:
    history = await three_shards()
    async with ReadStore(database) as store:
        await caught_up(store, history)
        older = f"SELECT keyspace, shard, partition, owner FROM muster.shards_r{SHARDS.revision}"
        await sql(database, "DROP VIEW muster.shards")
        await sql(database, f"CREATE VIEW muster.shards AS {older}")
        await sql(database, "CREATE VIEW public.mine AS SELECT owner FROM muster.shards")
        await caught_up(store, history)
    assert await sql(database, SHOWN) == [(number, False, None) for number in range(4)]
    assert len(await sql(database, "SELECT owner FROM public.mine")) == 4
