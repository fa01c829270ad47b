"""The projector against a real PostgreSQL: each event exactly once, whatever happens in between."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import asyncpg
import pytest
from hypothesis import given, settings

from domain.groups.member import MemberAdded, MemberJoined
from domain.groups.state import GroupCreated, GroupRules
from domain.message import Recorded
from domain.registry.instance import (
    InstanceDeregistered,
    InstanceDrainStarted,
    InstanceHealthChanged,
    InstanceMaintenanceSet,
)
from infra.local.postgres import LocalPostgres
from infra.log.port import START, Batch, Cursor
from infra.log.recorder import RecorderLog
from infra.postgres.schema import SchemaTaken
from infra.postgres.store import Changes, Overtaken, ReadStore
from infra.postgres.table import quoted
from infra.postgres.view import COMMENTS
from muster.wire.error import NotReady
from projections.catalogue import PROJECTIONS
from projections.projection import Key, Projection
from projections.registry.instances import INSTANCES
from tests.sample import FULL, registered
from tests.servers import SharedPostgres, create_database, run
from tests.workers.writer.history import ALL_HISTORIES, MAPPER, History, Told, until
from workers.audit.replay import replay
from workers.collector import Collector
from workers.projector import pipeline as lane
from workers.projector.pipeline import Limits
from workers.projector.projector import Projector

pytestmark = pytest.mark.postgres

ORDERS = "service/orders"


@asynccontextmanager
async def projecting(
    store: ReadStore, *logs: RecorderLog, projections: Any = PROJECTIONS, limits: Limits | None = None
) -> AsyncIterator[tuple[Projector, "asyncio.Task[None]"]]:
    """A projector that runs meanwhile."""
    projector = Projector(logs, store, MAPPER, projections, limits=limits)
    task = asyncio.create_task(projector.run())
    try:
        yield projector, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def caught_up(store: ReadStore, history: History, projections: Any = PROJECTIONS) -> None:
    """Project all of the history, then stop."""
    async with projecting(store, history.log, projections=projections) as (projector, task):
        await until(lambda: at(projector, history.cursor), task)


def at(projector: Projector, cursor: Cursor, partition: int = 0) -> bool:
    of_partition = projector.status()[str(partition)].values()
    return all(s["state"] == "current" and s["position"] == cursor.position for s in of_partition)


def in_state(projector: Projector, state: str) -> bool:
    return all(status["state"] == state for status in projector.status()["0"].values())


async def sql(dsn: str, query: str, *args: Any) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(query, *args)]
    finally:
        await connection.close()


async def stored(store: ReadStore, dsn: str, projections: Any = PROJECTIONS) -> dict[str, dict[Key, Any]]:
    """All stored rows, by projection."""
    found = {}
    for projection in projections:
        names = quoted(projection.key)
        keys = await sql(dsn, f"SELECT {names} FROM {store.table(projection).full_name}")
        found[projection.name] = await store.rows(projection, keys) if keys else {}
    return found


async def some_history(instances: int = 3) -> History:
    history = History()
    for number in range(instances):
        await history.add((ORDERS, registered(f"i{number}", incarnation=number)))
    return history


def drain(number: int) -> Told:
    return ORDERS, InstanceDrainStarted(instance=f"i{number}")


async def test_the_rows_are_those_of_a_replay(database: str) -> None:
    history = await some_history()
    async with ReadStore(database) as store:
        await caught_up(store, history)
        assert await stored(store, database) == (await replay([history.log], MAPPER)).rows


@pytest.mark.parametrize("schema", ["order", "user", "default", "2fast", "_", "a" * 63])
async def test_a_schema_may_be_any_word(database: str, schema: str) -> None:
    history = await some_history()
    async with ReadStore(database, schema=schema) as store:
        await caught_up(store, history)
    assert await sql(database, f'SELECT instances FROM "{schema}".services') == [(3,)]


async def test_what_comes_later_is_written_as_it_comes(database: str) -> None:
    history = await some_history()
    async with ReadStore(database) as store, projecting(store, history.log) as (projector, task):
        await until(lambda: at(projector, history.cursor), task)
        await history.add(drain(1))
        await until(lambda: at(projector, history.cursor), task)
        assert await sql(database, "SELECT instance FROM muster.instances WHERE draining") == [("i1",)]
        status = projector.status()["0"]["instances"]
        assert (status["lag"], status["parked"], status["detail"]) == (0, 0, None)


async def test_users_can_join_the_tables(database: str) -> None:
    history = await some_history()
    gone = InstanceDeregistered(instance="i2", incarnation=2, cause="requested", health="healthy")
    await history.add(
        drain(1),
        (ORDERS, gone),
        ("service/users", registered("u", metadata=FULL.metadata, tags=FULL.tags, checks=FULL.checks)),
    )
    async with ReadStore(database) as store:
        await caught_up(store, history)
    joined = await sql(
        database,
        "SELECT i.service, i.instance, s.instances, h.events, i.metadata ->> 'version', i.tags, i.partition "
        "FROM muster.instances i JOIN muster.services s USING (service) "
        "JOIN muster.instance_history h USING (service, instance) ORDER BY 1, 2",
    )
    assert joined == [
        ("orders", "i0", 2, 1, None, [], 0),
        ("orders", "i1", 2, 2, None, [], 0),
        ("users", "u", 1, 1, "1.4.2", ["blue", "canary"], 0),
    ]
    assert await sql(database, "SELECT instance FROM muster.healthy_instances") == [("i0",)]
    assert await sql(database, "SELECT events FROM muster.instance_history WHERE instance = 'i2'") == [(2,)]


async def test_sql_users_see_who_has_marked_an_instance_why_and_since_when(database: str) -> None:
    history = await some_history(2)
    await history.add((ORDERS, InstanceMaintenanceSet(instance="i1")))
    marked = history.recorded[-1]
    async with ReadStore(database) as store:
        await caught_up(store, history)
    of_mark = "maintenance_by, maintenance_reason, maintenance_since"
    found = await sql(database, f"SELECT maintenance, {of_mark} FROM muster.instances ORDER BY instance")
    assert found == [(False, None, None, None), (True, marked.actor, marked.reason, marked.at)]
    assert await sql(database, "SELECT DISTINCT draining_by FROM muster.instances") == [(None,)]


async def test_each_view_and_each_column_that_has_a_comment_is_there(database: str) -> None:
    async with ReadStore(database) as store:
        await store.prepare(PROJECTIONS)
    of_views = "SELECT relname::text, obj_description(oid) FROM pg_class WHERE relkind = 'v'"
    of_columns = (
        "SELECT c.relname || '.' || a.attname, col_description(c.oid, a.attnum) FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind = 'v'"
    )
    ours = " AND relnamespace = 'muster'::regnamespace"
    found = dict(await sql(database, of_views + ours)) | dict(await sql(database, of_columns + ours))
    assert {name: about for name, about in found.items() if about is not None} == COMMENTS
    assert {name for name, about in found.items() if about is None and "." not in name} == set()


async def test_killed_at_any_moment_it_counts_each_event_once(database: str) -> None:
    """The history counts events, so one applied twice or not at all would show."""
    history = await some_history(10)
    limits = Limits(read_events_max=4, slice_events_max=2, rows_changed_max=2, rows_cached_max=4)
    async with ReadStore(database) as store:
        for steps in range(0, 60, 3):
            async with projecting(store, history.log, limits=limits) as (_, task):
                for _ in range(steps):
                    await asyncio.wait([task], timeout=0.001)
            number = steps // 3 % 10
            if steps < 30:
                await history.add(drain(number))
        await caught_up(store, history)
        assert await stored(store, database) == (await replay([history.log], MAPPER)).rows


async def test_of_two_projectors_one_is_refused_and_changes_nothing(database: str) -> None:
    history = await some_history()
    async with ReadStore(database) as store:
        await caught_up(store, history)
        before = await stored(store, database)
        behind = Cursor(1, 1, bytes(32), 1, "w1")
        with pytest.raises(Overtaken):
            await store.commit(0, {INSTANCES: Changes(removed=[("orders", "i0")])}, behind, history.cursor)
        assert await stored(store, database) == before


async def test_two_projectors_together_lose_and_repeat_nothing(database: str) -> None:
    history = await some_history(20)
    async with ReadStore(database) as store, ReadStore(database) as other:
        async with projecting(store, history.log) as (one, task), projecting(other, history.log) as (two, _):
            for number in range(20):
                await history.add(drain(number))
            await until(lambda: at(one, history.cursor) or at(two, history.cursor), task)
        assert await stored(store, database) == (await replay([history.log], MAPPER)).rows


async def test_rows_are_loaded_again_after_they_left_memory(database: str) -> None:
    history = await some_history(30)
    for number in range(30):
        await history.add((ORDERS, InstanceHealthChanged(instance=f"i{number}", was="healthy", to="unhealthy")))
    for number in reversed(range(30)):
        await history.add((ORDERS, InstanceHealthChanged(instance=f"i{number}", was="unhealthy", to="healthy")))
    limits = Limits(slice_events_max=3, rows_changed_max=3, rows_cached_max=6)
    async with ReadStore(database) as store:
        async with projecting(store, history.log, limits=limits) as (projector, task):
            await until(lambda: at(projector, history.cursor), task)
        assert await stored(store, database) == (await replay([history.log], MAPPER)).rows


async def test_an_event_that_cannot_be_folded_parks_its_key_and_the_others_go_on(database: str) -> None:
    history = await some_history()
    poison = await history.add((ORDERS, registered("i1", incarnation=3)))
    await history.add(drain(0), drain(1), drain(2))
    async with ReadStore(database) as store, projecting(store, history.log) as (projector, task):
        await until(lambda: at(projector, history.cursor), task)
        assert [name for name, status in projector.status()["0"].items() if status["parked"]] == ["instances"]
        [parked] = await sql(database, "SELECT projection, key, position, reason FROM muster.parked")
        assert parked == ("instances", ["orders", "i1"], poison.position, "AssertionError: i1 is registered twice")
        draining = await sql(database, "SELECT instance FROM muster.instances WHERE draining ORDER BY 1")
        assert draining == [("i0",), ("i2",)]


async def test_a_parked_key_stays_parked_over_a_restart(database: str) -> None:
    history = await some_history()
    await history.add((ORDERS, registered("i1", incarnation=3)))
    async with ReadStore(database) as store:
        await caught_up(store, history)
        await history.add(drain(1))
        await caught_up(store, history)
        assert await sql(database, "SELECT instance FROM muster.instances WHERE draining") == []


@dataclass(frozen=True, slots=True)
class CountRow:
    """Another row under the same name."""

    drains: int
    service_of: str = "x"


def count_drains(row: CountRow | None, recorded: Recorded) -> CountRow:
    """Counts drains."""
    before = row.drains if row else 0
    return CountRow(before + isinstance(recorded.event, InstanceDrainStarted))


NEXT_INSTANCES: Projection[Any] = Projection(
    name="instances",
    revision=INSTANCES.revision + 1,
    row=CountRow,
    key=("service", "instance"),
    events=INSTANCES.events,
    key_of=INSTANCES.key_of,
    fold=count_drains,
)
NEXT = tuple(NEXT_INSTANCES if projection is INSTANCES else projection for projection in PROJECTIONS)


async def test_a_new_revision_is_built_beside_and_shown_when_it_has_caught_up(database: str) -> None:
    history = await some_history()
    await history.add(drain(1))
    async with ReadStore(database) as store:
        await caught_up(store, history)
        assert await store.prepare(NEXT) == [NEXT_INSTANCES]
        assert await sql(database, "SELECT count(*) FROM muster.instances WHERE draining") == [(1,)]
        await history.add(drain(2))
        await caught_up(store, history, NEXT)
        assert await sql(database, "SELECT instance FROM muster.instances WHERE drains = 1 ORDER BY 1") == [
            ("i1",),
            ("i2",),
        ]
        assert await sql(database, f"SELECT to_regclass('muster.instances_r{INSTANCES.revision}')::text") == [(None,)]
        assert await sql(
            database, "SELECT DISTINCT revision FROM muster.checkpoint WHERE projection = 'instances'"
        ) == [(NEXT_INSTANCES.revision,)]
        with pytest.raises(NotReady, match="newer muster"):
            await store.prepare(PROJECTIONS)


async def test_a_cursor_that_the_log_refuses_says_rebuild_and_rebuild_does_it(database: str) -> None:
    history, other = await some_history(), History()
    await other.add((ORDERS, registered("z")), (ORDERS, registered("y", incarnation=1)), (ORDERS, registered("x")))
    async with ReadStore(database) as store:
        await caught_up(store, history)
        async with projecting(store, other.log) as (projector, task):
            await until(lambda: in_state(projector, "rebuild"), task)
            assert "rebuild" in projector.status()["0"]["services"]["detail"]
            await projector.rebuild(0)
            await until(lambda: at(projector, other.cursor), task)
        assert await stored(store, database) == (await replay([other.log], MAPPER)).rows


async def test_damage_stops_its_partition_with_all_before_it_written(database: str) -> None:
    history = await some_history()
    damaged = history.with_record(3, history.value(3).replace(b"ann", b"eve"))
    async with ReadStore(database) as store, projecting(store, damaged) as (projector, task):
        await until(lambda: in_state(projector, "corrupt"), task)
        assert "position 3" in projector.status()["0"]["instances"]["detail"]
        assert await sql(database, "SELECT instance FROM muster.instances ORDER BY 1") == [("i0",), ("i1",)]


async def test_a_database_that_goes_away_is_waited_for(postgres_alone: LocalPostgres) -> None:
    history = await some_history()
    async with ReadStore(postgres_alone.dsn) as store, projecting(store, history.log) as (projector, task):
        await until(lambda: at(projector, history.cursor), task)
        postgres_alone.kill()
        await history.add(drain(0))
        await until(lambda: in_state(projector, "waiting"), task)
        await postgres_alone.start()
        await until(lambda: at(projector, history.cursor), task)
        assert await stored(store, postgres_alone.dsn) == (await replay([history.log], MAPPER)).rows


class Attentive(ReadStore):
    """A read store that notes whether the garbage collector is off while it is written to."""

    collector_was_off: ClassVar[list[bool]] = []

    async def commit(self, *args: Any) -> None:
        """See ReadStore."""
        self.collector_was_off.append(not gc.isenabled())
        await super().commit(*args)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody else wants off."""
    monkeypatch.setattr(lane, "COLLECTOR", Collector())


@pytest.mark.usefixtures("collector")
async def test_the_collector_is_off_until_it_has_caught_up(database: str) -> None:
    history = await some_history()
    Attentive.collector_was_off.clear()
    async with Attentive(database) as store, projecting(store, history.log) as (projector, task):
        await until(lambda: at(projector, history.cursor), task)
        await history.add(drain(1))
        await until(lambda: at(projector, history.cursor), task)
    assert Attentive.collector_was_off == [True, False]


@pytest.mark.usefixtures("collector")
async def test_the_collector_runs_again_when_catching_up_ends_early(database: str) -> None:
    history = await some_history()
    damaged = history.with_record(3, history.value(3).replace(b"ann", b"eve"))
    async with ReadStore(database) as store, projecting(store, damaged) as (projector, task):
        await until(lambda: in_state(projector, "corrupt"), task)
        assert gc.isenabled()


class Stepwise(RecorderLog):
    """A log that is read batch by batch, each once it is let `go`."""

    def __init__(self, history: History) -> None:
        super().__init__(history.recorder, 0, poll_seconds=0.001)
        self.go = asyncio.Semaphore(0)

    async def read(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """See EventLog."""
        async for batch in super().read(after):
            await self.go.acquire()
            yield batch


class Slow(ReadStore):
    """A read store whose writes wait until it is `open`; `positions` are those up to which it was asked to write."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.open = asyncio.Event()
        self.positions: list[int] = []

    async def commit(self, partition: int, changes: Any, old: Cursor, new: Cursor) -> None:
        """See ReadStore."""
        self.positions.append(new.position)
        await self.open.wait()
        await super().commit(partition, changes, old, new)


async def test_a_write_that_takes_long_is_not_followed_at_once_by_another(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, now = await some_history(4), 0.0
    monkeypatch.setattr(lane, "time", SimpleNamespace(monotonic=lambda: now))
    log = Stepwise(history)
    async with Slow(database) as store, projecting(store, log) as (projector, task):
        await until(lambda: in_state(projector, "catching up"), task)
        now = Limits().write_seconds_max
        log.go.release()
        await until(lambda: len(store.positions) == 1, task)
        log.go.release()
        await until(log.go.locked, task)
        await asyncio.sleep(0.01)
        store.open.set()
        log.go.release()
        await asyncio.sleep(0.05)
        assert len(store.positions) == 1
        for _ in range(4):
            log.go.release()
        await until(lambda: at(projector, history.cursor), task)
        assert store.positions[1:] == [history.cursor.position]


async def test_what_postgres_cannot_hold_is_replaced(database: str) -> None:
    history = History()
    await history.add((ORDERS, registered("a", metadata={"n": "a\x00b"}, zone="z\x00")))
    async with ReadStore(database) as store:
        await caught_up(store, history)
    assert await sql(database, "SELECT metadata ->> 'n', zone FROM muster.instances") == [("a\ufffdb", "z\ufffd")]


async def test_the_members_of_a_group_are_json_that_postgres_can_hold(database: str) -> None:
    history = History()
    joined = MemberJoined(member="db1", process="p\x00", address="10.0.0.7:\x00")
    created = GroupCreated(settings=GroupRules(), epoch=0, failovers=0, set_version=0)
    await history.add(*(("group/db", told) for told in (created, MemberAdded(member="db1", priority=7), joined)))
    async with ReadStore(database) as store:
        await caught_up(store, history)
    asked = "SELECT m ->> 'member', (m ->> 'priority')::int, m ->> 'address' FROM muster.groups, jsonb_array_elements(members) m"
    assert await sql(database, asked) == [("db1", 7, "10.0.0.7:\ufffd")]


async def test_a_replay_goes_into_a_schema_of_its_own(database: str) -> None:
    history = await some_history()
    await history.add(drain(0))
    async with ReadStore(database, schema="past") as store:
        found = await replay([history.log], MAPPER, to_position=2, into=store)
        assert await stored(store, database) == found.rows
        assert await sql(database, "SELECT count(*) FROM past.healthy_instances") == [(2,)]
        again = await replay([history.log], MAPPER, into=store)
        assert await stored(store, database) == again.rows


async def test_a_replay_refuses_what_is_not_a_replays(database: str) -> None:
    history = await some_history()
    async with ReadStore(database) as store:
        await caught_up(store, history)
        with pytest.raises(SchemaTaken, match="projector"):
            await replay([history.log], MAPPER, into=store)
        await replay([history.log], MAPPER, to_position=1, into=store, overwrite=True)
        assert await sql(database, "SELECT count(*) FROM muster.instances") == [(1,)]
        with pytest.raises(SchemaTaken, match="replay"):
            await store.prepare(PROJECTIONS)
    await sql(database, "CREATE SCHEMA users CREATE TABLE users (id int)")
    async with ReadStore(database, schema="users") as store:
        with pytest.raises(SchemaTaken, match="something else"):
            await replay([history.log], MAPPER, into=store)


async def test_a_projector_does_not_fill_a_replays_schema(database: str) -> None:
    history = await some_history()
    async with ReadStore(database) as store:
        await replay([history.log], MAPPER, into=store)
        with pytest.raises(SchemaTaken, match="replay"):
            await Projector([history.log], store, MAPPER).run()


async def test_partitions_are_told_apart(database: str) -> None:
    history = await some_history()
    empty = RecorderLog(History().recorder, 1, poll_seconds=0.001)
    async with ReadStore(database) as store, projecting(store, history.log, empty) as (projector, task):
        await until(lambda: at(projector, history.cursor) and at(projector, START, 1), task)
        assert projector.status().keys() == {"0", "1"}


@settings(max_examples=12, deadline=None)
@given(ALL_HISTORIES)
def test_any_history_gives_the_rows_of_a_replay(postgres: SharedPostgres, told: list[list[Told]]) -> None:
    async def check() -> None:
        history = History()
        for batch in told:
            await history.add(*batch)
        database = await create_database(postgres)
        async with ReadStore(database) as store:
            await caught_up(store, history)
            assert await stored(store, database) == (await replay([history.log], MAPPER)).rows

    run(check())
