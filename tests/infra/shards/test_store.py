"""What the store promises of one shard: its epochs and states, its writes, its limits, its log."""

import os
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise

import lmdb
import pytest

from infra.shards.record import LoggedChange, ShardWrite, StoredWrite, digest_hex, pair_digest
from infra.shards.store import ShardStore, wipe_records_max
from muster.wire.error import (
    ChecksumMismatch,
    Corrupt,
    DataUnavailable,
    InvalidCommand,
    InvalidShardKey,
    LogTrimmed,
    NotOwner,
    NotReady,
    ReadFailed,
    ShardNotFound,
    ShardOverflow,
    StaleEpoch,
    WriteFailed,
)
from muster.wire.shards.driver import Location, ShardId, ShardLimits

SHARD, OTHER = ShardId("users", 3), ShardId("users", 4)
HERE, THERE = Location("n1", "h1:7000"), Location("n2", "h2:7000")
LIMITS = ShardLimits()


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path) as store:
        yield store


@contextmanager
def opened(path, **options):
    store = ShardStore(path, here=HERE, **options)
    try:
        yield store
    finally:
        store.close()


def put(store, key, value=b"v", *, write_id="", epoch=0, shard=SHARD):
    [result] = store.write([ShardWrite(shard, epoch, key, value, write_id)])
    if isinstance(result, StoredWrite):
        return result
    raise result


def serving(store, epoch=1, shard=SHARD, limits=LIMITS):
    store.open(shard, epoch, limits)
    return store


def pairs_of(store, shard=SHARD):
    with store.snapshot(shard) as snapshot:
        return {key: value for part in snapshot.pairs() for key, value in part}


def copied(source, target, epoch=2, shard=SHARD):
    """A complete hidden copy of the shard in the target."""
    copy = target.prepare(shard, epoch).copy
    with source.snapshot(shard) as snapshot:
        position = snapshot.extent.position
        for ids in snapshot.write_ids():
            target.install(shard, copy, position=position, write_ids=ids)
        for pairs in snapshot.pairs():
            target.install(shard, copy, position=position, pairs=pairs)
    return target.install(shard, copy, position=position, done=True)


def entries(path):
    """How many entries each database of a closed store holds."""
    with lmdb.open(str(path), max_dbs=8) as env:
        counts = {}
        for name in ("pairs", "changes", "ids", "wipes"):
            database = env.open_db(name.encode())
            with env.begin() as txn:
                counts[name] = txn.stat(database)["entries"]
        return counts


class TestStates:
    def test_a_fresh_shard_is_empty_and_serves(self, store):
        record = serving(store).record(SHARD)
        assert (record.state, record.epoch, record.position, record.records, record.digest) == ("serving", 1, 0, 0, 0)
        assert store.get(SHARD, 1, "nothing").value is None

    def test_opening_again_empties_nothing(self, store):
        put(serving(store), "a")
        store.open(SHARD, 1, LIMITS)
        assert store.get(SHARD, 1, "a").value == b"v"

    def test_opening_does_not_lift_a_fence(self, store):
        serving(store).fence(SHARD, 1)
        store.open(SHARD, 1, LIMITS)
        assert store.record(SHARD).state == "fenced"

    @pytest.mark.parametrize("epoch", [1, 3])
    def test_opening_with_another_epoch_is_refused(self, store, epoch):
        put(serving(store, 2), "a")
        with pytest.raises(StaleEpoch) as refused:
            store.open(SHARD, epoch, LIMITS)
        assert refused.value.context["epoch"] == 2
        assert store.get(SHARD, 2, "a").value == b"v"

    def test_what_was_dropped_is_not_opened_again_by_a_late_command(self, store):
        serving(store).drop(SHARD, 1)
        with pytest.raises(StaleEpoch):
            store.open(SHARD, 1, LIMITS)

    def test_a_drop_is_remembered_with_its_own_epoch(self, store):
        serving(store).drop(SHARD, 2)
        with pytest.raises(StaleEpoch):
            store.open(SHARD, 2, LIMITS)
        store.open(SHARD, 3, LIMITS)

    def test_a_fence_is_the_end_of_its_epoch(self, store):
        put(serving(store), "a")
        final = store.fence(SHARD, 1)
        assert (final.position, final.digest) == (1, digest_hex(pair_digest(b"a", b"v")))
        assert store.fence(SHARD, 1) == final
        with pytest.raises(DataUnavailable):
            put(store, "b")
        with pytest.raises(DataUnavailable):
            store.get(SHARD, 1, "a")
        with pytest.raises(StaleEpoch):
            store.activate(SHARD, 1, LIMITS)
        assert store.record(SHARD).extent == final

    def test_a_fence_outlives_the_process(self, tmp_path):
        with opened(tmp_path) as store:
            final = serving(store).fence(SHARD, 1)
        with opened(tmp_path) as store:
            assert store.fence(SHARD, 1) == final
            with pytest.raises(DataUnavailable):
                put(store, "a")

    def test_a_reclaimed_shard_serves_with_its_new_epoch_only(self, store):
        put(serving(store), "a")
        store.fence(SHARD, 1)
        store.activate(SHARD, 2, LIMITS)
        assert store.get(SHARD, 2, "a").value == b"v"
        for late in (lambda: store.fence(SHARD, 1), lambda: store.activate(SHARD, 1, LIMITS)):
            with pytest.raises(StaleEpoch):
                late()
        assert put(store, "b", epoch=2).position == 2

    def test_a_retired_shard_says_who_serves_it(self, store):
        serving(store).fence(SHARD, 1)
        store.retire(SHARD, 2, THERE)
        store.retire(SHARD, 2, THERE)
        with pytest.raises(NotOwner) as refused:
            put(store, "a", epoch=1)
        assert refused.value.context == {"epoch": 2, "owner": "n2", "address": "h2:7000"}
        for late in (lambda: store.activate(SHARD, 1, LIMITS), lambda: store.retire(SHARD, 1, HERE)):
            with pytest.raises(StaleEpoch):
                late()
        with pytest.raises(NotOwner):
            store.activate(SHARD, 3, LIMITS)

    def test_who_serves_with_an_epoch_is_not_retired_with_it(self, store):
        with pytest.raises(StaleEpoch):
            serving(store).retire(SHARD, 1, THERE)

    def test_a_node_that_never_had_the_shard_says_who_serves_it(self, store):
        store.retire(SHARD, 5, THERE)
        with pytest.raises(NotOwner):
            put(store, "a")
        with pytest.raises(StaleEpoch):
            store.prepare(SHARD, 5)
        with pytest.raises(ShardNotFound):
            store.activate(SHARD, 6, LIMITS)

    def test_a_dropped_shard_leaves_nothing_but_a_tombstone(self, tmp_path):
        with opened(tmp_path) as store:
            put(serving(store), "a", write_id="w")
            store.fence(SHARD, 1)
            store.retire(SHARD, 2, THERE)
            store.drop(SHARD, 2)
            store.drop(SHARD, 2)
            assert (store.record(SHARD).epoch, store.record(SHARD).owner) == (2, THERE)
            with pytest.raises(NotOwner):
                store.get(SHARD, 1, "a")
        assert set(entries(tmp_path).values()) == {0}

    def test_a_drop_that_comes_late_leaves_a_newer_copy_alone(self, store):
        put(serving(store), "a")
        store.fence(SHARD, 1)
        store.activate(SHARD, 2, LIMITS)
        with pytest.raises(StaleEpoch):
            store.drop(SHARD, 1)
        store.prepare(OTHER, 3)
        with pytest.raises(StaleEpoch):
            store.drop(OTHER, 2)
        assert store.get(SHARD, 2, "a").value == b"v"

    def test_dropping_what_is_not_here_does_nothing(self, store):
        store.drop(SHARD, 1)
        assert store.records() == []

    def test_shards_are_apart(self, store):
        put(serving(store), "a")
        put(serving(store, shard=OTHER), "a", b"other", shard=OTHER)
        store.drop(SHARD, 1)
        assert pairs_of(store, OTHER) == {"a": b"other"}
        assert [shard for shard, _ in store.records()] == [SHARD, OTHER]


class TestEpochsOfRequests:
    def test_a_request_without_an_opinion_is_served(self, store):
        assert put(serving(store, 4), "a", epoch=0) == StoredWrite(1, 4)

    def test_an_older_epoch_is_told_the_newer_one(self, store):
        with pytest.raises(StaleEpoch) as refused:
            put(serving(store, 4), "a", epoch=3)
        assert refused.value.context == {"epoch": 4, "owner": "n1", "address": "h1:7000"}
        with pytest.raises(StaleEpoch):
            store.get(SHARD, 3, "a")
        assert store.record(SHARD).position == 0

    def test_a_newer_epoch_is_asked_to_wait(self, store):
        with pytest.raises(DataUnavailable):
            put(serving(store, 4), "a", epoch=5)
        with pytest.raises(DataUnavailable):
            store.scan(SHARD, 5, "", 10)

    def test_a_shard_that_is_not_known_is_not_found(self, store):
        with pytest.raises(ShardNotFound):
            put(store, "a")

    def test_a_hidden_copy_neither_serves_nor_names_an_owner(self, store):
        store.prepare(SHARD, 2)
        with pytest.raises(NotOwner) as refused:
            put(store, "a", epoch=1)
        assert refused.value.context == {}
        with pytest.raises(DataUnavailable):
            put(store, "a", epoch=2)
        with pytest.raises(NotOwner), store.snapshot(SHARD):
            pass


class TestWrites:
    def test_each_write_is_the_next_change(self, store):
        serving(store)
        results = store.write(
            [ShardWrite(SHARD, 1, "a", b"1"), ShardWrite(SHARD, 1, "a", None), ShardWrite(SHARD, 1, "gone", None)]
        )
        assert [result.position for result in results] == [1, 2, 3]
        assert pairs_of(store) == {}
        assert store.record(SHARD).extent.digest == digest_hex(0)

    def test_refusals_stand_beside_what_was_written(self, store):
        serving(store)
        kinds = [
            type(result)
            for result in store.write(
                [
                    ShardWrite(SHARD, 1, "a", b"1"),
                    ShardWrite(OTHER, 1, "a", b"1"),
                    ShardWrite(SHARD, 1, "", b"1"),
                    ShardWrite(SHARD, 1, "b", b"1", "x" * 65),
                    ShardWrite(SHARD, 1, "c", b"3"),
                ]
            )
        ]
        assert kinds == [StoredWrite, ShardNotFound, InvalidShardKey, InvalidCommand, StoredWrite]
        assert pairs_of(store) == {"a": b"1", "c": b"3"}

    def test_the_longest_key_and_keyspace_fit(self, store):
        shard, key = ShardId("k" * 128, 65_535), "é" * 250
        put(serving(store, shard=shard), key, shard=shard, write_id="é" * 32)
        assert store.get(shard, 1, key).value == b"v"
        assert store.records()[0][0] == shard

    def test_a_repeat_gets_the_first_answer(self, tmp_path):
        with opened(tmp_path) as store:
            put(serving(store), "a", b"1", write_id="w")
            put(store, "a", b"2")
        with opened(tmp_path) as store:
            assert put(store, "a", b"1", write_id="w") == StoredWrite(1, 1, duplicate=True)
            assert store.get(SHARD, 1, "a").value == b"2"

    def test_a_repeat_in_the_same_batch_gets_the_first_answer(self, store):
        serving(store)
        first, second = store.write([ShardWrite(SHARD, 1, "a", b"1", "w"), ShardWrite(SHARD, 1, "a", b"1", "w")])
        assert (first.position, second) == (1, StoredWrite(1, 1, duplicate=True))

    def test_only_so_many_write_ids_are_kept_the_newest(self, tmp_path):
        with opened(tmp_path, ids_max=3) as store:
            serving(store)
            for number in range(10):
                put(store, "a", write_id=f"w{number}")
            assert store.record(SHARD).ids == 3
            assert put(store, "a", write_id="w7").duplicate
            assert not put(store, "a", write_id="w6").duplicate

    def test_a_value_over_the_limit_is_refused(self, store):
        serving(store, limits=ShardLimits(value_bytes_max=10))
        put(store, "a", b"x" * 10)
        with pytest.raises(ShardOverflow):
            put(store, "a", b"x" * 11)

    def test_a_full_shard_takes_what_does_not_make_it_larger(self, store):
        serving(store, limits=ShardLimits(shard_bytes_max=22))
        put(store, "a", b"x" * 10, write_id="w")
        put(store, "b", b"x" * 10)
        for key, value in (("c", b""), ("a", b"x" * 11)):
            with pytest.raises(ShardOverflow):
                put(store, key, value)
        assert put(store, "a", b"x" * 10, write_id="w").duplicate
        put(store, "a", b"y" * 10)
        put(store, "b", None)
        put(store, "c", b"x" * 10)

    def test_a_full_shard_whose_limit_was_lowered_may_shrink(self, store):
        put(serving(store), "a", b"x" * 100)
        store.activate(SHARD, 1, ShardLimits(shard_bytes_max=10))
        put(store, "a", b"x" * 50)
        assert store.record(SHARD).bytes == 51

    def test_a_scan_goes_on_behind_a_key(self, store):
        serving(store)
        for key in ("b", "a", "a\x01", "ab", "ä"):
            put(store, key, key.encode())
        assert [key for key, _ in store.scan(SHARD, 1, "", 10)] == ["a", "a\x01", "ab", "b", "ä"]
        assert [key for key, _ in store.scan(SHARD, 1, "a", 2)] == ["a\x01", "ab"]
        assert [key for key, _ in store.scan(SHARD, 1, "ab", 10, bytes_max=1)] == ["b"]
        assert store.scan(SHARD, 1, "ä", 10) == []

    def test_nothing_is_traded_for_speed(self, store):
        flags = store._env._env.flags()
        assert (flags["sync"], flags["metasync"], flags["map_async"]) == (True, True, False)


class TestLog:
    def test_it_holds_what_was_written(self, store):
        serving(store)
        put(store, "a", b"1", write_id="w")
        put(store, "a", None)
        found = store.changes(SHARD, 0)
        one = pair_digest(b"a", b"1")
        assert found.changes == [LoggedChange(1, "a", b"1", "w", one), LoggedChange(2, "a", None, "", 0)]
        assert (found.head, found.fenced, found.digest) == (2, False, 0)
        assert store.changes(SHARD, 0, bytes_max=1).changes == found.changes[:1]
        store.fence(SHARD, 1)
        assert store.changes(SHARD, 2).fenced

    def test_an_empty_value_is_not_a_deletion(self, store):
        put(serving(store), "a", b"")
        assert store.changes(SHARD, 0).changes[0].value == b""
        assert pairs_of(store) == {"a": b""}

    def test_it_is_trimmed_and_says_so(self, tmp_path):
        with opened(tmp_path, log_records_max=5) as store:
            serving(store)
            for _ in range(20):
                put(store, "a")
            with pytest.raises(LogTrimmed) as trimmed:
                store.changes(SHARD, 14)
            assert trimmed.value.context == {"after": 14, "first": 16}
            assert [change.position for change in store.changes(SHARD, 15).changes] == [16, 17, 18, 19, 20]
        assert entries(tmp_path)["changes"] == 5

    def test_its_bytes_are_bounded_too(self, tmp_path):
        with opened(tmp_path, log_bytes_max=10_000) as store:
            serving(store)
            for _ in range(40):
                put(store, "a", b"x" * 900)
            record = store.record(SHARD)
            assert record.log_bytes <= 10_000
            kept = store.changes(SHARD, record.log_first - 1).changes
            assert len(kept) == 41 - record.log_first == 10

    def test_what_a_reader_needs_is_kept_as_long_as_it_reads(self, tmp_path):
        with opened(tmp_path, log_records_max=2) as store:
            put(serving(store), "a")
            pin = store.pin(SHARD)
            for _ in range(20):
                put(store, "a")
            assert len(store.changes(SHARD, pin.after).changes) == 20
            pin.after = 11
            put(store, "a")
            assert store.record(SHARD).log_first == 12
            store.unpin(pin)
            store.unpin(pin)
            put(store, "a")
            assert store.record(SHARD).log_first == 22

    def test_a_reader_ahead_of_it_is_refused(self, store):
        with pytest.raises(ChecksumMismatch):
            serving(store).changes(SHARD, 1)


class TestTakingOver:
    @pytest.fixture
    def target(self, tmp_path):
        with opened(tmp_path / "target") as target:
            yield target

    @pytest.fixture
    def source(self, store):
        serving(store)
        for number in range(50):
            put(store, f"k{number % 20:02}", bytes([number]) * number, write_id=f"w{number}")
        put(store, "k07", None)
        return store

    def test_a_copy_is_what_the_source_is(self, source, target):
        record = copied(source, target)
        assert record.extent == source.record(SHARD).extent == target.recompute(SHARD)
        target.activate(SHARD, 2, LIMITS)
        assert pairs_of(target) == pairs_of(source)
        assert put(target, "k00", write_id="w3") == StoredWrite(4, 2, duplicate=True)
        assert put(target, "k00").position == source.record(SHARD).position + 1
        assert target.changes(SHARD, record.position).changes[0].key == "k00"
        with pytest.raises(LogTrimmed):
            target.changes(SHARD, record.position - 1)

    def test_a_snapshot_is_of_one_moment(self, source):
        with source.snapshot(SHARD) as snapshot:
            before = pairs_of(source)
            put(source, "k01", b"later")
            put(source, "zzz", b"later")
            assert {key: value for part in snapshot.pairs(bytes_max=1) for key, value in part} == before
            assert snapshot.recompute() == snapshot.extent

    def test_a_fenced_shard_gives_snapshots_to_nodes_but_none_to_clients(self, source):
        source.fence(SHARD, 1)
        with source.snapshot(SHARD) as snapshot:
            assert snapshot.recompute() == source.record(SHARD).extent
        with pytest.raises(DataUnavailable), source.snapshot(SHARD, fenced=False):
            pass

    def test_a_copy_that_is_not_complete_does_not_serve(self, source, target):
        copy = target.prepare(SHARD, 2).copy
        for part in ({"pairs": [("k00", b"")]}, {"pairs": [("k01", b"")]}):
            with pytest.raises(ChecksumMismatch):
                target.activate(SHARD, 2, LIMITS)
            target.install(SHARD, copy, position=9, **part)
        with pytest.raises(Corrupt):
            target.replay(SHARD, copy, source.changes(SHARD, 9).changes)
        target.install(SHARD, copy, position=11, done=True)
        with pytest.raises(ChecksumMismatch):
            target.activate(SHARD, 2, LIMITS)

    def test_a_copy_serves_with_the_epoch_that_it_was_made_for(self, source, target):
        copied(source, target)
        with pytest.raises(StaleEpoch):
            target.activate(SHARD, 3, LIMITS)
        target.activate(SHARD, 2, LIMITS)
        target.activate(SHARD, 2, LIMITS)

    def test_a_prepared_copy_is_kept_for_its_epoch_and_wiped_for_the_next(self, source, tmp_path):
        with opened(tmp_path / "target") as target:
            record = copied(source, target)
            assert target.prepare(SHARD, 2) == record
            again = target.prepare(SHARD, 3)
            assert (again.epoch, again.records, again.checkpoint) == (3, 0, None)
            with pytest.raises(StaleEpoch):
                target.prepare(SHARD, 2)
        assert set(entries(tmp_path / "target").values()) == {0}

    @pytest.mark.parametrize("fence", [False, True])
    def test_a_shard_that_serves_is_not_wiped_for_a_copy(self, source, fence):
        if fence:
            source.fence(SHARD, 1)
        for epoch in (1, 2, 9):
            with pytest.raises(StaleEpoch):
                source.prepare(SHARD, epoch)
        assert source.recompute(SHARD).records == 19

    def test_after_an_abort_the_same_epoch_can_be_prepared_again(self, target):
        target.prepare(SHARD, 2)
        target.drop(SHARD, 2)
        assert target.prepare(SHARD, 2).state == "hidden"

    def test_what_was_meant_for_a_wiped_copy_does_not_reach_its_successor(self, source, target):
        old = target.prepare(SHARD, 2).copy
        new = target.restart(SHARD, old).copy
        with pytest.raises(StaleEpoch):
            target.install(SHARD, old, position=1, pairs=[("a", b"")])
        with pytest.raises(StaleEpoch):
            target.replay(SHARD, old, [])
        target.install(SHARD, new, position=0, done=True)
        target.activate(SHARD, 2, LIMITS)
        with pytest.raises(StaleEpoch):
            target.replay(SHARD, new, source.changes(SHARD, 0).changes)

    def test_changes_with_a_gap_are_refused_whole(self, source, target):
        record = copied(source, target)
        for number in range(4):
            put(source, f"n{number}")
        changes = source.changes(SHARD, record.position).changes
        with pytest.raises(Corrupt):
            target.replay(SHARD, record.copy, [changes[0], *changes[2:]])
        assert target.record(SHARD) == record
        target.replay(SHARD, record.copy, changes[:3])
        assert target.replay(SHARD, record.copy, changes).extent == source.record(SHARD).extent

    def test_a_copy_that_differs_from_its_source_is_found_by_the_next_change(self, source, target):
        record = copied(source, target)
        put(source, "new")
        [change] = source.changes(SHARD, record.position).changes
        with pytest.raises(ChecksumMismatch):
            target.replay(SHARD, record.copy, [change._replace(value=b"damaged")])
        with pytest.raises(ChecksumMismatch):
            target.replay(SHARD, record.copy, [change._replace(digest=change.digest ^ 1)])
        assert target.record(SHARD) == record

    def test_a_resumed_copy_ends_with_the_same_digest(self, source, target):
        copy = target.prepare(SHARD, 2).copy
        with source.snapshot(SHARD) as snapshot:
            first = snapshot.extent.position
            target.install(SHARD, copy, position=first, pairs=next(snapshot.pairs(bytes_max=100)))
        last = target.record(SHARD).checkpoint.last_key
        put(source, "k00", b"changed behind the checkpoint")
        put(source, "k01", None)
        put(source, last + "a", b"new behind the checkpoint")
        put(source, "k19", b"changed once")
        put(source, "k19", None)
        with source.snapshot(SHARD) as snapshot:
            newest = snapshot.extent.position
            for pairs in snapshot.pairs(last):
                target.install(SHARD, copy, position=newest, pairs=pairs)
            record = target.install(SHARD, copy, position=newest, done=True)
        put(source, "k19", b"and again")
        assert (record.position, record.checkpoint.newest) == (first, newest)
        replayed = target.replay(SHARD, copy, source.changes(SHARD, first).changes)
        assert replayed.extent == source.record(SHARD).extent == target.recompute(SHARD)

    def test_the_log_of_a_new_owner_begins_with_its_first_write(self, source, target):
        record = copied(source, target)
        put(source, "k01", b"replayed")
        target.replay(SHARD, record.copy, source.changes(SHARD, record.position).changes)
        target.activate(SHARD, 2, LIMITS)
        put(target, "k02", b"its own")
        with pytest.raises(LogTrimmed):
            target.changes(SHARD, record.position)
        assert [change.key for change in target.changes(SHARD, record.position + 1).changes] == ["k02"]

    def test_a_complete_copy_takes_no_further_part(self, source, target):
        record = copied(source, target)
        put(source, "k01", b"replayed")
        replayed = target.replay(SHARD, record.copy, source.changes(SHARD, record.position).changes)
        late = target.install(SHARD, record.copy, position=record.position, pairs=[("k01", b"old")], done=True)
        assert late == replayed == target.record(SHARD)
        assert target.recompute(SHARD) == source.recompute(SHARD)

    def test_a_part_that_comes_twice_counts_once(self, target):
        copy = target.prepare(SHARD, 2).copy
        pairs = [("a", b"1"), ("c", b"3")]
        first = target.install(SHARD, copy, position=1, pairs=pairs)
        assert target.install(SHARD, copy, position=1, pairs=pairs) == first
        again = target.install(SHARD, copy, position=1, pairs=[("a", b"4"), ("b", b"2")])
        assert again.extent == replace(target.recompute(SHARD), position=1)

    def test_a_part_out_of_order_is_refused(self, target):
        copy = target.prepare(SHARD, 2).copy
        with pytest.raises(Corrupt):
            target.install(SHARD, copy, position=1, pairs=[("b", b""), ("a", b"")])

    def test_a_flipped_bit_on_disk_is_seen_when_pairs_are_read_again(self, source, tmp_path):
        path = tmp_path / "target"
        with opened(path) as target:
            record = copied(source, target)
        with lmdb.open(str(path), max_dbs=8) as env:
            database = env.open_db(b"pairs")
            with env.begin(write=True) as txn:
                key = record.copy.to_bytes(4, "big") + b"k12"
                value = txn.get(key, db=database)
                txn.put(key, bytes([value[0] ^ 1]) + value[1:], db=database)
        with opened(path) as target:
            assert target.recompute(SHARD) != target.record(SHARD).extent == record.extent


class TestFolder:
    def test_a_second_opener_is_told_who_has_it(self, store, tmp_path):
        with pytest.raises(NotReady, match=f"process {os.getpid()}"):
            ShardStore(tmp_path)

    def test_after_closing_it_can_be_opened_and_nothing_else_is_done(self, tmp_path):
        with opened(tmp_path) as store:
            serving(store)
        store.close()
        with pytest.raises(ReadFailed):
            store.get(SHARD, 1, "a")
        with pytest.raises(WriteFailed):
            put(store, "a")
        with opened(tmp_path):
            pass

    def test_an_interrupted_drop_is_finished_at_the_next_start(self, tmp_path):
        with opened(tmp_path) as store:
            serving(store)
            for start in range(0, 20_000, 2_000):
                store.write([ShardWrite(SHARD, 1, f"k{start + n}", b"v", f"w{start + n}") for n in range(2_000)])
            put(serving(store, shard=OTHER), "kept", shard=OTHER)
            dropping = threading.Thread(target=drop_quietly, args=(store,))
            dropping.start()
            while store.record(SHARD).copy:
                time.sleep(0.001)
        dropping.join()
        left = entries(tmp_path)
        assert left["wipes"] == 1
        assert left["pairs"] + left["changes"] + left["ids"] > 1_000
        with opened(tmp_path) as store:
            assert pairs_of(store, OTHER) == {"kept": b"v"}
        assert entries(tmp_path) == {"pairs": 1, "changes": 1, "ids": 0, "wipes": 0}

    @pytest.mark.parametrize("again", range(3))  # an unfair lock is sometimes fair
    def test_writes_go_on_while_a_large_shard_is_dropped(self, store, again):
        serving(store)
        for start in range(0, 20_000, 2_000):
            store.write([ShardWrite(SHARD, 1, f"k{start + n}", b"v" * 100) for n in range(2_000)])
        serving(store, shard=OTHER)
        dropping = threading.Thread(target=store.drop, args=(SHARD, 1))
        dropping.start()
        between = 0
        while dropping.is_alive():
            put(store, "a", shard=OTHER)
            between += dropping.is_alive()
        slices = 40_000 // wipe_records_max
        assert between > slices / 2, "writes take turns with the slices"

    def test_the_map_grows_and_ends_long_reads(self, tmp_path):
        with opened(tmp_path, map_bytes=1 << 20) as store:
            put(serving(store), "a", b"small")
            with store.snapshot(SHARD) as snapshot:
                parts = snapshot.pairs()
                for number in range(40):
                    put(store, f"k{number}", b"x" * 100_000)
                with pytest.raises(ReadFailed, match="begin again"):
                    next(parts)
            assert store.recompute(SHARD) == store.record(SHARD).extent
            assert store.record(SHARD).records == 41
        with opened(tmp_path, map_bytes=1 << 20) as store:
            put(store, "one more", b"x" * 500_000)
            assert store.record(SHARD).records == 42

    def test_reads_go_on_while_the_map_grows(self, tmp_path):
        with opened(tmp_path, map_bytes=1 << 20) as store:
            put(serving(store), "a", b"small")
            stop, wrong = threading.Event(), []
            readers = [threading.Thread(target=read_until, args=(store, stop, wrong)) for _ in range(3)]
            for reader in readers:
                reader.start()
            for number in range(100):
                put(store, f"k{number}", b"x" * 100_000)
            stop.set()
            for reader in readers:
                reader.join()
            assert wrong == []

    def test_positions_never_repeat_over_many_threads(self, store):
        serving(store)
        found = []

        def write(name):
            found.extend(put(store, f"{name}-{number}").position for number in range(50))

        writers = [threading.Thread(target=write, args=(name,)) for name in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert all(later == earlier + 1 for earlier, later in pairwise(sorted(found)))
        assert len(found) == 200


def drop_quietly(store):
    """Drop; a store that is closed meanwhile may say that it cannot write."""
    with suppress(WriteFailed):
        store.drop(SHARD, 1)


def read_until(store, stop, wrong):
    while not stop.is_set():
        if store.get(SHARD, 1, "a").value != b"small" or store.scan(SHARD, 1, "", 1) != [("a", b"small")]:
            wrong.append("a")
