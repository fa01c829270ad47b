"""Snapshots: what is restored is what a fold of the log would give, or nothing at all."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from eventsourcing.persistence import StoredEvent
from eventsourcing.popo import POPOApplicationRecorder

from domain.registry.service import (
    DeregisterInstance,
    DrainInstance,
    RegisterInstance,
    ReportHealth,
    SetMaintenance,
)
from infra.log.call_thread import CallThread
from infra.log.chain import Chain
from infra.log.codec import CloudEventMapper
from infra.log.recorder import RecorderLog
from infra.log.snapshot import PartitionSnapshot
from infra.sqlite.snapshots import SqliteSnapshots
from muster.wire.error import CursorRefused
from projections.catalogue import PROJECTIONS
from tests.machine import Machine, facts, statuses
from tests.sample import FULL, TTL, envelope, register
from workers.controller import snapshots
from workers.machine.partition import Partition
from workers.views import snapshotter as module
from workers.views.snapshotter import Snapshotter
from workers.views.views import Views
from workers.writer.writer import Writer

COMMANDS = [
    register("a", "1", **{name: getattr(FULL, name) for name in ("metadata", "tags", "zone", "checks")}),
    register("b", "2", checks=(TTL,), lease_seconds=5.0),
    envelope("3", ReportHealth(instance="a", status="unhealthy", cause="disk full")),
    envelope("4", SetMaintenance(instance="b")),
    register("c", "5", service="users"),
    envelope("6", DeregisterInstance(instance="c"), service="users"),
    envelope("7", DrainInstance(instance="nobody")),
]


class Memory:
    """The newest snapshot, in memory."""

    def __init__(self) -> None:
        self.snapshot: PartitionSnapshot | None = None

    async def load(self, partition: int) -> PartitionSnapshot | None:
        return self.snapshot

    async def save(self, partition: int, snapshot: PartitionSnapshot) -> None:
        self.snapshot = snapshot


class Kept(Machine):
    """A machine with views and a snapshotter, as a controller has them."""

    def __init__(self, store, projections=PROJECTIONS) -> None:
        self.projections = projections
        self.views = Views([0], projections)
        super().__init__()
        self.store = store
        self.snapshotter = Snapshotter(store, self.partition, self.views)

    def commit(self, group):
        recorded = super().commit(group)
        self.views.apply(0, self.folded, self.partition.cursor)
        return recorded

    def follow(self, partition: Partition) -> Partition:
        return self.follow_with(partition, self.views if partition is self.partition else Views([0]))

    def follow_with(self, partition: Partition, views: Views) -> Partition:
        after = partition.cursor
        rest = [(position, *self.log[position]) for position in range(after.position + 1, len(self.log))]
        for batch in Chain(0, after).follow(rest):
            views.apply(0, partition.fold(batch), batch.cursor, batch.voids)
        return partition

    async def restored(self) -> tuple[bool, Partition, Views]:
        """Another controller: the newest snapshot, then the rest of the log."""
        partition, views = Partition(0, CloudEventMapper()), Views([0], self.projections)
        found = await Snapshotter(self.store, partition, views).restore()
        self.follow_with(partition, views)
        return found, partition, views


@pytest.fixture
def kept() -> Kept:
    kept = Kept(Memory())
    kept.group(*COMMANDS[:4], offset=0)
    kept.group(*COMMANDS[4:], offset=4)
    return kept


def seen(views: Views):
    return (views.services, views.instances, views.history, views.cursors, views.terms, views.voids)


async def test_what_is_restored_is_what_was(kept):
    await kept.snapshotter.take()
    found, partition, views = await kept.restored()
    assert found
    assert facts(partition) == facts(kept.partition)
    assert partition.commands_offset == kept.partition.commands_offset == 7
    assert seen(views) == seen(kept.views)


async def test_who_holds_an_instance_and_which_marks_are_kept_is_restored(kept):
    kept.group(
        envelope("8", RegisterInstance(instance="held", spec=FULL, holder="h1")),
        envelope("9", SetMaintenance(instance="held")),
        envelope("10", RegisterInstance(instance="held", spec=FULL, holder="h2")),
        envelope("11", DeregisterInstance(instance="b")),
    )
    await kept.snapshotter.take()
    _, partition, _ = await kept.restored()
    service = partition.streams["service/orders"]
    assert (dict(service.holders), list(service.kept)) == ({"held": "h2"}, ["b"])
    assert facts(partition) == facts(kept.partition)


async def test_a_partition_goes_on_from_a_snapshot(kept):
    await kept.snapshotter.take()
    kept.group(register("a", "8", port=81), offset=7)
    found, partition, views = await kept.restored()
    assert found
    assert facts(partition) == facts(kept.partition) == facts(kept.recovered())
    assert seen(views) == seen(kept.views)
    kept.claims("w2", partition)
    assert statuses(kept.group(COMMANDS[0], register("a", "8", port=81), register("d", "9"))) == [
        "accepted again",
        "accepted again",
        "accepted",
    ]


async def test_a_snapshot_taken_while_a_group_is_open_knows_nothing_of_the_group(kept):
    group = kept.step(register("d", "8"), register("e", "9", service="new"), offset=7)
    await kept.snapshotter.take()
    kept.partition.rollback(group)
    _, partition, _ = await kept.restored()
    assert facts(partition) == facts(kept.partition)
    assert partition.commands_offset == 7


async def test_what_happens_while_a_snapshot_is_taken_is_not_in_it(kept):
    taking = asyncio.create_task(kept.snapshotter.take())
    await asyncio.sleep(0)
    kept.group(register("a", "8", port=81))
    kept.claims("w2")
    await taking
    assert kept.store.snapshot.cursor.position == 8 - 2
    found, partition, views = await kept.restored()
    assert found
    assert facts(partition) == facts(kept.partition)
    assert seen(views) == seen(kept.views)


async def test_nothing_new_needs_no_new_snapshot(kept):
    await kept.snapshotter.take()
    first = kept.store.snapshot
    await kept.snapshotter.take()
    assert kept.store.snapshot is first


MANY, FEW = module.events_between, module.events_between - 1
LONG, SHORT = module.recovering_seconds_between, module.recovering_seconds_between - 1


@pytest.mark.parametrize(
    ("events", "seconds", "recovered", "due"),
    [
        pytest.param(MANY, 0, True, True, id="a writer at work: after so many events, however soon"),
        pytest.param(FEW, LONG, True, False, id="a quiet writer: not before, however late"),
        pytest.param(MANY, SHORT, False, False, id="while the log is read: it would be obsolete in a moment"),
        pytest.param(MANY, LONG, False, True, id="a very long recovery: once a minute, so that it need not begin anew"),
        pytest.param(FEW, LONG, False, False, id="a very slow recovery: not for a few events"),
    ],
)
def test_when_a_snapshot_is_due(events, seconds, recovered, due):
    assert module.is_due(events, seconds, recovered=recovered) is due


async def test_what_is_due_is_taken_and_then_due_no_more(kept, monkeypatch):
    await kept.snapshotter.take_if_due(recovered=True)
    assert kept.snapshotter.position == -1
    monkeypatch.setattr(module, "events_between", 5)
    await kept.snapshotter.take_if_due(recovered=False)
    assert kept.snapshotter.position == -1
    await kept.snapshotter.take_if_due(recovered=True)
    assert kept.snapshotter.position == kept.partition.cursor.position


async def test_no_snapshot_delays_the_reading_of_another_partition(kept, monkeypatch):
    monkeypatch.setattr(module, "events_between", 1)
    monkeypatch.setattr(snapshots, "snapshot_look_seconds", 0.0)
    writers = {number: Writer(None, kept.partition, kept.views, name="w") for number in range(2)}
    writers[0].recovered.set()
    keeping = asyncio.create_task(snapshots.keep_snapshots(writers, {0: kept.snapshotter}))
    await asyncio.sleep(0.05)
    assert kept.snapshotter.position == -1
    writers[1].recovered.set()
    await asyncio.sleep(0.05)
    assert kept.snapshotter.position == kept.partition.cursor.position
    keeping.cancel()


async def test_the_minute_of_a_long_recovery_counts_from_the_last_snapshot(kept, monkeypatch):
    monkeypatch.setattr(module, "events_between", 1)
    kept.snapshotter._since -= LONG
    await kept.snapshotter.take_if_due(recovered=False)
    first = kept.snapshotter.position
    assert first == kept.partition.cursor.position
    kept.group(register("a", "8", port=81))
    await kept.snapshotter.take_if_due(recovered=False)
    assert kept.snapshotter.position == first


async def test_a_snapshot_in_the_middle_of_a_skimmed_log_holds_everything(kept):
    partition, views = Partition(0, CloudEventMapper()), Views([0])
    for batch in Chain(0, partition.cursor).follow((position, *record) for position, record in enumerate(kept.log)):
        views.skim(0, partition.fold(batch), batch.cursor, batch.voids)
    await Snapshotter(kept.store, partition, views).take()
    found, partition, views = await kept.restored()
    assert found
    assert facts(partition) == facts(kept.partition)
    assert seen(views) == seen(kept.views)


async def test_many_rows_come_in_many_chunks():
    kept = Kept(Memory())
    for first in range(0, 240, 80):
        kept.group(*(register(f"i{number}", f"c{number}") for number in range(first, first + 80)))
    await kept.snapshotter.take()
    assert sum(b'"instances"' in module._unpacked(chunk)[:30] for chunk in kept.store.snapshot.chunks) == 3
    assert facts((await kept.restored())[1]) == facts(kept.partition)


async def test_no_snapshot_is_none():
    assert not (await Kept(Memory()).restored())[0]


async def test_a_snapshot_of_another_revision_is_none(kept):
    await kept.snapshotter.take()
    kept.store.snapshot = replace(kept.store.snapshot, revision="0:other")
    found, partition, _ = await kept.restored()
    assert not found
    assert facts(partition) == facts(kept.partition)


@pytest.fixture
def on_disk(tmp_path):
    with closing(CallThread("snapshots")) as thread:
        yield Kept(SqliteSnapshots(tmp_path / "snapshots.sqlite", thread)), tmp_path / "snapshots.sqlite"


def damage(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount


class TestOnDisk:
    """Two generations, each behind a manifest with the hashes of its chunks."""

    async def test_it_survives(self, on_disk):
        kept, _ = on_disk
        kept.group(*COMMANDS)
        await kept.snapshotter.take()
        found, partition, views = await kept.restored()
        assert found
        assert facts(partition) == facts(kept.partition)
        assert seen(views) == seen(kept.views)

    @pytest.mark.parametrize(
        "harm",
        [
            "UPDATE chunk SET data = CAST(data || 'x' AS BLOB) WHERE generation = ? AND number = 2",
            "UPDATE chunk SET data = CAST(replace(data, 'a', 'b') AS BLOB) WHERE generation = ?",
            "DELETE FROM chunk WHERE generation = ? AND number = 1",
            "DELETE FROM snapshot WHERE generation = ?",
        ],
    )
    async def test_a_damaged_generation_falls_back_to_the_older_one(self, on_disk, harm):
        kept, path = on_disk
        kept.group(*COMMANDS[:2])
        await kept.snapshotter.take()
        older = kept.partition.cursor
        kept.group(*COMMANDS[2:])
        await kept.snapshotter.take()
        damage(path, harm, 0)
        assert (await kept.store.load(0)).cursor == older
        found, partition, _ = await kept.restored()
        assert found
        assert facts(partition) == facts(kept.partition)

    async def test_both_damaged_is_none(self, on_disk):
        kept, path = on_disk
        kept.group(*COMMANDS)
        await kept.snapshotter.take()
        damage(path, "UPDATE chunk SET data = x'00' WHERE generation = ?", 1)
        found, partition, _ = await kept.restored()
        assert not found
        assert facts(partition) == facts(kept.partition)

    async def test_the_newest_of_many_is_loaded_and_only_two_are_kept(self, on_disk):
        kept, path = on_disk
        for number in range(5):
            kept.group(register("a", str(number), port=80 + number))
            await kept.snapshotter.take()
        assert (await kept.store.load(0)).cursor == kept.partition.cursor
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM snapshot").fetchone() == (2,)

    async def test_partitions_do_not_mix(self, on_disk):
        kept, _ = on_disk
        kept.group(*COMMANDS)
        await kept.snapshotter.take()
        assert await kept.store.load(1) is None


async def test_a_snapshot_that_the_log_contradicts_is_refused_with_rebuild(kept):
    await kept.snapshotter.take()
    partition, views = Partition(0, CloudEventMapper()), Views([0])
    await Snapshotter(kept.store, partition, views).restore()
    other = Machine()
    other.group(*[replace(command, id=f"x{command.id}") for command in COMMANDS], register("z", "99"))
    recorder = POPOApplicationRecorder()
    recorder.insert_events(
        [StoredEvent("muster.events/0", position, "t", value) for position, (_, value) in enumerate(other.log)]
    )
    with pytest.raises(CursorRefused, match="rebuild"):
        await anext(RecorderLog(recorder, 0).read(partition.cursor))
