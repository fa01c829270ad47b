"""Loads in PostgreSQL: the newest word about each service and shard, and nothing that is old."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from infra.postgres.load_tables import SERVICE_LOADS, SHARD_LOADS, LoadTables, forgotten_seconds
from infra.postgres.store import ReadStore
from infra.settings import Settings
from muster.wire.telemetry.loads import ClientsWord, ServiceLoad
from muster.wire.telemetry.shard_loads import NodeLoads, ShardLoad, ToldShard
from projections.catalogue import PROJECTIONS
from tests.workers.projector.test_projector import sql
from tests.workers.writer.history import until
from workers.controller.process import running
from workers.projector import loads as lane
from workers.projector.loads import LoadWriter
from workers.views.loads import Loads

pytestmark = pytest.mark.postgres

SUSPECT = ClientsWord(instance="a", incarnation=1, clients=3, failing=0, answering=3)
SHOWN = "SELECT node, reads_per_second, bytes FROM muster.shard_loads ORDER BY keyspace, shard"


# Told now, and not when this file is read: what is a minute old is deleted.
@pytest.fixture
def orders() -> ServiceLoad:
    return ServiceLoad(
        service="orders", instances=3, heard=2, in_flight=12.0, suspected=(SUSPECT,), at=datetime.now(UTC)
    )


@pytest.fixture
def users_7() -> ShardLoad:
    return ShardLoad(keyspace="users", shard=7, node="n1", reads_per_second=310.5, bytes=1 << 40, at=datetime.now(UTC))


def later(load: ShardLoad, seconds: float, **more: float) -> ShardLoad:
    return replace(load, at=load.at + timedelta(seconds=seconds), **more)


@asynccontextmanager
async def prepared(dsn: str) -> AsyncIterator[LoadTables]:
    async with ReadStore(dsn) as store:
        await store.prepare(PROJECTIONS)
        yield store.loads


@pytest.mark.parametrize("table", [SERVICE_LOADS, SHARD_LOADS])
def test_a_table_has_the_columns_of_the_answer_over_http(table: object) -> None:
    assert isinstance(table, type(SERVICE_LOADS))
    assert list(table.columns) == [field.name for field in fields(table.row)]


async def test_rows_are_as_they_were_told(database: str, orders: ServiceLoad, users_7: ShardLoad) -> None:
    async with prepared(database) as tables:
        await tables.put([orders], [users_7])
    [service] = await sql(
        database, "SELECT service, instances, heard, in_flight, per_second, at FROM muster.service_loads"
    )
    assert service == ("orders", 3, 2, 12.0, None, orders.at)
    assert await sql(database, "SELECT suspected -> 0 ->> 'instance' FROM muster.service_loads") == [("a",)]
    [shard] = await sql(
        database, "SELECT keyspace, shard, node, reads_per_second, writes_per_second, bytes FROM muster.shard_loads"
    )
    assert shard == ("users", 7, "n1", 310.5, None, 1 << 40)


async def test_of_two_words_the_newer_one_stays(database: str, users_7: ShardLoad) -> None:
    async with prepared(database) as tables:
        await tables.put([], [later(users_7, 2, reads_per_second=5.0)])
        await tables.put([], [later(users_7, 1, reads_per_second=9.0)])
        assert await sql(database, SHOWN) == [("n1", 5.0, 1 << 40)]
        await tables.put([], [replace(later(users_7, 3), node="n2")])
    assert await sql(database, SHOWN) == [("n2", 310.5, 1 << 40)]


async def test_what_nobody_tells_any_more_is_deleted(database: str, orders: ServiceLoad, users_7: ShardLoad) -> None:
    old = replace(orders, service="old", at=orders.at - timedelta(seconds=forgotten_seconds + 1))
    async with prepared(database) as tables:
        await tables.put([orders, old], [users_7])
        await tables.put([], [])
    assert await sql(database, "SELECT service FROM muster.service_loads") == [("orders",)]
    assert len(await sql(database, SHOWN)) == 1


async def test_two_controllers_that_write_the_same_rows_do_not_wait_for_each_other(
    database: str, users_7: ShardLoad
) -> None:
    shards = [replace(users_7, shard=number) for number in range(500)]
    async with prepared(database) as tables:
        for turn in range(5):
            told = [later(shard, turn) for shard in shards]
            await asyncio.gather(tables.put([], told), tables.put([], told[::-1]))
    assert len(await sql(database, SHOWN)) == 500


async def test_a_database_of_before_is_given_the_tables_and_a_table_of_before_its_columns(
    database: str, orders: ServiceLoad, users_7: ShardLoad
) -> None:
    async with prepared(database):
        pass
    await sql(database, "DROP TABLE muster.service_loads")
    await sql(database, "ALTER TABLE muster.shard_loads DROP COLUMN bytes")
    async with prepared(database) as tables:
        await tables.put([orders], [users_7])
    assert await sql(database, SHOWN) == [("n1", 310.5, 1 << 40)]
    assert len(await sql(database, "SELECT * FROM muster.service_loads")) == 1


async def test_a_replay_has_no_loads(database: str) -> None:
    async with ReadStore(database, schema="then") as store:
        await store.prepare(PROJECTIONS, "replay")
    assert await sql(database, "SELECT to_regclass('\"then\".shard_loads')") == [(None,)]


async def test_what_a_controller_has_heard_is_written_and_what_is_no_news_is_not(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "write_seconds", 0.01)
    loads, rows = Loads(), list[int]()

    class Counting(LoadTables):
        async def put(self, services: list[ServiceLoad], shards: list[ShardLoad]) -> None:  # type: ignore[override]
            await super().put(services, shards)
            rows.append(len(shards))

    async with prepared(database) as tables:
        writing = asyncio.create_task(LoadWriter(Counting(tables._connections, tables._schema), loads).run())
        try:
            loads.told(
                NodeLoads(node="n1", keyspaces={"users": [ToldShard(0, 1.0), ToldShard(1)]}, at=datetime.now(UTC))
            )
            await until(lambda: sum(rows) == 2 and rows[-3:] == [0, 0, 0], writing)
            loads.told(NodeLoads(node="n1", keyspaces={"users": [ToldShard(0, 4.0)]}, at=datetime.now(UTC)))
            await until(lambda: sum(rows) == 3, writing)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
    assert await sql(database, "SELECT shard, reads_per_second FROM muster.shard_loads ORDER BY shard") == [
        (0, 4.0),
        (1, None),
    ]


async def test_a_database_that_fails_is_tried_again_and_misses_nothing_that_still_counts(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "write_seconds", 0.01)
    monkeypatch.setattr(lane, "again_seconds", 0.01)
    loads = Loads()
    loads.told(NodeLoads(node="n1", keyspaces={"users": [ToldShard(0, 1.0)]}, at=datetime.now(UTC)))
    async with ReadStore(database) as store:
        writing = asyncio.create_task(LoadWriter(store.loads, loads).run())
        try:
            with pytest.raises(asyncpg.UndefinedTableError):
                await store.loads.put([], [])
            await asyncio.sleep(0.2)  # Some tries.
            assert not writing.done()
            await store.prepare(PROJECTIONS)
            while not await sql(database, SHOWN):  # noqa: ASYNC110 the database is asked
                await asyncio.sleep(0.01)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
    assert await sql(database, SHOWN) == [("n1", 1.0, None)]


async def test_a_controller_with_postgres_writes_what_its_nodes_tell(database: str, tmp_path: Path) -> None:
    async with running(Settings(data=tmp_path, http="127.0.0.1:0", postgres=database)) as controller:
        row = NodeLoads(node="n1", keyspaces={"users": [ToldShard(3, 2.5, 0.5, 9)]}, at=datetime.now(UTC))
        controller.gateway.loads.told(row)
        made = "SELECT to_regclass('muster.shard_loads') IS NOT NULL"
        while await sql(database, made) == [(False,)] or not await sql(database, SHOWN):  # noqa: ASYNC110 as above
            await asyncio.sleep(0.05)
    assert await sql(database, SHOWN) == [("n1", 2.5, 9)]
