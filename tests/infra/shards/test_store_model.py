"""Two stores against a dict: whatever is written, copied, resumed, replayed and handed over, they hold what was acknowledged."""

import tempfile
from hashlib import blake2b
from pathlib import Path
from shutil import rmtree

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from infra.shards.record import ShardWrite, StoredWrite
from infra.shards.store import ShardStore
from muster.wire.shards.driver import Extent, Location, ShardId, ShardLimits

SHARD = ShardId("users", 3)
KEYS = st.sampled_from(["a", "a\x01", "aa", "b", "bé", "c", "zz", "€" * 100])
VALUES = st.none() | st.binary(max_size=40)
IDS = st.just("") | st.sampled_from([f"w{number}" for number in range(12)])
WRITES = st.lists(st.tuples(KEYS, VALUES, IDS), min_size=1, max_size=4)


def digest_of(pairs):
    """The published rule, written a second time."""
    total = 0
    for key, value in pairs.items():
        raw = key.encode()
        hashed = blake2b(len(raw).to_bytes(4, "big"), digest_size=16)
        hashed.update(raw)
        hashed.update(value)
        total += int.from_bytes(hashed.digest(), "big")
    return f"{total % 2**128:032x}"


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.names = ["one", "two"]
        self.stores = {name: ShardStore(self.folder / name) for name in self.names}
        self.pairs: dict[str, bytes] = {}
        self.ids: dict[str, int] = {}
        self.position = 0
        self.epoch = 1

    @property
    def source(self):
        return self.stores[self.names[0]]

    @property
    def target(self):
        return self.stores[self.names[1]]

    @property
    def copy(self):
        """The target's hidden copy for the coming epoch, if there is one."""
        record = self.target.record(SHARD)
        return record if record and record.state == "hidden" and record.epoch == self.epoch + 1 else None

    @initialize()
    def open(self):
        self.source.open(SHARD, 1, ShardLimits())

    @rule(writes=WRITES)
    def write(self, writes):
        expected = [self.expect(*write) for write in writes]
        assert self.source.write([ShardWrite(SHARD, self.epoch, *write) for write in writes]) == expected

    def expect(self, key, value, write_id):
        if write_id in self.ids:
            return StoredWrite(self.ids[write_id], self.epoch, duplicate=True)
        self.position += 1
        if value is None:
            self.pairs.pop(key, None)
        else:
            self.pairs[key] = value
        if write_id:
            self.ids[write_id] = self.position
        return StoredWrite(self.position, self.epoch)

    @rule(writes=WRITES)
    def write_while_a_snapshot_is_read(self, writes):
        before = dict(self.pairs)
        with self.source.snapshot(SHARD) as snapshot:
            self.write(writes)
            assert {key: value for part in snapshot.pairs(bytes_max=1) for key, value in part} == before

    @rule()
    def prepare(self):
        self.target.prepare(SHARD, self.epoch + 1)

    @precondition(lambda self: self.copy is not None)
    @rule(bytes_max=st.integers(1, 200))
    def install_a_part(self, bytes_max):
        """Each part from a newer snapshot, as if the copy had broken off behind every one."""
        copy = self.copy
        last_key = copy.checkpoint.last_key if copy.checkpoint else ""
        with self.source.snapshot(SHARD, epoch=self.epoch) as snapshot:
            position = snapshot.extent.position
            if not last_key:
                for ids in snapshot.write_ids(2):
                    self.target.install(SHARD, copy.copy, position=position, write_ids=ids)
            part = next(snapshot.pairs(last_key, bytes_max), None)
        self.target.install(SHARD, copy.copy, position=position, pairs=part or (), done=part is None)

    @precondition(lambda self: self.copy is not None and self.copy.checkpoint and self.copy.checkpoint.done)
    @rule(bytes_max=st.integers(1, 400), overlap=st.integers(0, 2))
    def replay_some(self, bytes_max, overlap):
        copy = self.copy
        after = max(copy.position - overlap, copy.checkpoint.first)
        self.target.replay(SHARD, copy.copy, self.source.changes(SHARD, after, bytes_max=bytes_max).changes)

    @rule()
    def fence_and_reclaim(self):
        assert self.source.fence(SHARD, self.epoch) == self.expected()
        self.epoch += 1
        self.source.activate(SHARD, self.epoch, ShardLimits())

    @precondition(lambda self: self.copy is not None)
    @rule(drop=st.booleans())
    def hand_over(self, drop):
        while not (self.copy.checkpoint and self.copy.checkpoint.done):
            self.install_a_part(1_000)
        final = self.source.fence(SHARD, self.epoch)
        while self.copy.position < final.position:
            self.replay_some(1_000, 0)
        assert self.copy.extent == final == self.target.recompute(SHARD)
        self.epoch += 1
        self.target.activate(SHARD, self.epoch, ShardLimits())
        self.source.retire(SHARD, self.epoch, Location("n2", "h:1"))
        if drop:
            self.source.drop(SHARD, self.epoch)
        self.names.reverse()

    @rule(which=st.integers(0, 1))
    def restart(self, which):
        name = self.names[which]
        self.stores[name].close()
        self.stores[name] = ShardStore(self.folder / name)

    def expected(self):
        size = sum(len(key.encode()) + len(value) for key, value in self.pairs.items())
        return Extent(self.position, digest_of(self.pairs), len(self.pairs), size)

    @invariant()
    def the_source_holds_what_was_acknowledged(self):
        record = self.source.record(SHARD)
        if record is None:
            return
        assert record.extent == self.expected() == self.source.recompute(SHARD)
        ordered = sorted(self.pairs.items(), key=lambda pair: pair[0].encode())
        assert self.source.scan(SHARD, self.epoch, "", 100) == ordered
        for key in ("a", "nothing"):
            assert self.source.get(SHARD, self.epoch, key).value == self.pairs.get(key)

    @invariant()
    def a_copy_holds_what_its_record_says(self):
        record = self.target.record(SHARD)
        if record is None or not record.copy:
            return
        recomputed = self.target.recompute(SHARD)
        assert record.extent == recomputed
        copy = self.copy
        if copy and copy.checkpoint and copy.checkpoint.done and copy.position == self.position:
            assert recomputed == self.expected()

    def teardown(self):
        for store in self.stores.values():
            store.close()
        rmtree(self.folder)


TestTheStoresHoldWhatWasAcknowledged = Machine.TestCase
TestTheStoresHoldWhatWasAcknowledged.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
