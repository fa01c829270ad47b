"""The chain rule as pure scenarios: what is history, what is void, and where a partition stops."""

import pytest
from eventsourcing.persistence import StoredEvent

from domain.registry.instance import InstanceDrainStarted, InstanceMaintenanceSet
from infra.log.chain import Chain, link, sealed, term_started
from infra.log.port import START, Cursor
from muster.wire.error import Corrupt
from muster.wire.stream import root_of
from tests.sample import NOON, registered, sealed_batch

SOURCE = "/muster/default"
DRAINED = (registered(), InstanceDrainStarted(instance="a"))
SERVED = (InstanceMaintenanceSet(instance="a"),)


class Scene:
    """A partition's records in log order; each word appends some and returns the scene."""

    def __init__(self) -> None:
        self.values: list[tuple[bytes, bytes]] = []
        self.cursors: dict[str, Cursor] = {}

    def begins(self, writer: str, after: Cursor | None = None) -> "Scene":
        """`TermStarted` as the writer sees it: behind `after`, or behind all that is there."""
        after = self.cursor if after is None else after
        marker = term_started(after, writer, NOON, SOURCE)
        self.records([marker])
        self.cursors[writer] = Cursor(after.position + 1, after.position + 1, self._link(), after.term + 1, writer)
        return self

    def appends(self, writer: str, *events) -> "Scene":
        """One batch on the writer's own head, whatever the others did."""
        stored, self.cursors[writer] = sealed_batch(self.cursors[writer], *events)
        return self.records(stored)

    def records(self, stored: list[StoredEvent]) -> "Scene":
        self.values += [(root_of(str(record.originator_id)).encode(), record.state) for record in stored]
        return self

    def raw(self, key: bytes, value: bytes) -> "Scene":
        self.values.append((key, value))
        return self

    def changed(self, position: int, value: bytes) -> "Scene":
        """The record at the position has other bytes now."""
        self.values[position] = (self.values[position][0], value)
        return self

    def _link(self) -> bytes:
        return link(*self.values[-1])

    @property
    def cursor(self) -> Cursor:
        return self.read()[0]

    def read(self, after: Cursor = START, *, keys: bool = True) -> tuple[Cursor, list[list[int]], int]:
        """The cursor at the end, the positions of each batch, and how many voids were passed."""
        chain, batches, voids = Chain(0, after), [], 0
        rest = enumerate(self.values[after.position + 1 :], start=after.position + 1)
        for batch in chain.follow((position, key if keys else None, value) for position, (key, value) in rest):
            voids += batch.voids
            if batch.records:
                batches.append([position for position, _ in batch.records])
        return chain.cursor, batches, voids

    def has(self, *batches: list[int], voids: int = 0) -> None:
        """All readers find these batches, with keys or without."""
        assert self.read()[1:] == (list(batches), voids)
        assert self.read(keys=False)[1:] == (list(batches), voids)

    def is_corrupt(self, position: int, reason: str, *, keys: bool = True) -> None:
        """Every reader stops there, and says where and why."""
        with pytest.raises(Corrupt, match=reason) as stopped:
            self.read(keys=keys)
        assert stopped.value.context["position"] == position
        assert stopped.value.context["partition"] == 0


def scene() -> Scene:
    return Scene()


class TestHistory:
    def test_an_empty_log_has_no_history(self):
        scene().has()

    def test_the_reigning_writers_batches_are_history(self):
        scene().begins("w1").appends("w1", *DRAINED).appends("w1", *SERVED).has([1, 2], [3])

    def test_the_next_term_goes_on_at_the_head(self):
        scene().begins("w1").appends("w1", *DRAINED).begins("w2").appends("w2", *SERVED).has([1, 2], [4])

    def test_the_cursor_says_who_reigns_and_what_the_head_is(self):
        told = scene().begins("w1").appends("w1", *DRAINED)
        assert told.cursor == told.cursors["w1"]
        assert (told.cursor.position, told.cursor.head_position, told.cursor.term, told.cursor.writer) == (
            2,
            2,
            1,
            "w1",
        )

    def test_a_reader_goes_on_from_any_batchs_end(self):
        told = scene().begins("w1").appends("w1", *DRAINED)
        middle = told.cursor
        assert told.appends("w1", *SERVED).read(middle) == (told.cursor, [[3]], 0)

    def test_half_a_batch_is_not_handed_out(self):
        told = scene().begins("w1").appends("w1", *DRAINED)
        told.values.pop()
        told.has()
        assert told.cursor.position == 0

    def test_a_batch_in_pieces_is_handed_out_whole(self):
        told = scene().begins("w1").appends("w1", *DRAINED)
        chain = Chain(0, START)
        found = [list(chain.follow([(position, *told.values[position])])) for position in range(len(told.values))]
        assert [[len(batch.records) for batch in batches] for batches in found] == [[0], [], [2]]


class TestVoid:
    def test_a_deposed_writers_batch_never_happened(self):
        scene().begins("w1").appends("w1", *DRAINED).begins("w2").appends("w1", *SERVED).has([1, 2], voids=1)

    def test_history_goes_on_behind_a_deposed_writers_batch(self):
        told = scene().begins("w1").begins("w2").appends("w1", *DRAINED).appends("w2", *SERVED)
        told.has([4], voids=2)
        assert (told.cursor.position, told.cursor.writer) == (4, "w2")

    def test_of_two_who_start_the_same_term_the_first_in_the_log_reigns(self):
        told = scene().begins("w1", START).begins("w2", START)
        told.has(voids=1)
        assert told.cursor.writer == "w1"
        assert told.appends("w1", *DRAINED).read()[1:] == ([[2, 3]], 1)

    def test_a_term_that_starts_behind_unread_records_is_void(self):
        told = scene().begins("w1")
        stale = told.cursor
        told.appends("w1", *DRAINED).begins("w2", stale).has([1, 2], voids=1)
        assert told.cursor.writer == "w1"

    @pytest.mark.parametrize(
        "value", [b"", b"hello", b'{"specversion":"1.0","type":"other"}', b"\x00" * 900, b"[]"], ids=repr
    )
    def test_foreign_bytes_are_passed_and_counted(self, value):
        told = scene().begins("w1").raw(b"key", value).appends("w1", *DRAINED)
        told.has([2, 3], voids=1)

    def test_foreign_bytes_in_the_middle_of_a_batch_do_not_break_it(self):
        told = scene().begins("w1").appends("w1", *DRAINED)
        told.values.insert(2, (b"key", b"hello"))
        told.has([1, 3], voids=1)

    def test_voids_move_the_cursor_but_not_the_head(self):
        told = scene().begins("w1").raw(b"key", b"hello")
        assert (told.cursor.position, told.cursor.head_position) == (1, 0)


class TestCorrupt:
    def test_a_missing_record_of_the_reigning_term(self):
        told = scene().begins("w1").appends("w1", *DRAINED).appends("w1", *SERVED)
        del told.values[2]
        told.is_corrupt(2, "prev is not the link")

    def test_a_gap_in_the_positions(self):
        told = scene().begins("w1").appends("w1", *DRAINED)
        records = [(0, *told.values[0]), (2, *told.values[2])]
        with pytest.raises(Corrupt, match="record 1 is missing"):
            list(Chain(0, START).follow(records))

    def test_two_records_in_the_wrong_order(self):
        told = scene().begins("w1").appends("w1", *DRAINED)
        told.values[1:] = reversed(told.values[1:])
        told.is_corrupt(1, "prev is not the link")

    def test_a_record_twice(self):
        told = scene().begins("w1").appends("w1", *SERVED)
        told.raw(*told.values[-1]).is_corrupt(2, "prev is not the link")

    def test_a_term_that_was_never_started(self):
        told = scene().begins("w1")
        told.cursors["w9"] = Cursor(0, 0, told.cursor.head, 9, "w9")
        told.appends("w9", *SERVED).is_corrupt(1, "term 9 of w9 was never started")

    def test_another_writer_in_the_reigning_term(self):
        told = scene().begins("w1")
        told.cursors["w9"] = Cursor(0, 0, told.cursor.head, 1, "w9")
        told.appends("w9", *SERVED).is_corrupt(1, "term 1 of w9 was never started")

    def test_a_term_number_is_left_out(self):
        told = scene().begins("w1")
        told.begins("w2", Cursor(0, 0, told.cursor.head, 7, "w1")).is_corrupt(
            1, "term 8 starts, but the last one was 1"
        )

    def test_a_term_starts_in_the_middle_of_a_batch(self):
        told = scene().begins("w1").appends("w1", *DRAINED)
        told.values.pop()
        half = Cursor(1, 1, link(*told.values[1]), 1, "w1")
        told.begins("w2", half).is_corrupt(2, "in the middle of a batch")

    def test_a_record_under_another_key(self):
        told = scene().begins("w1").appends("w1", *SERVED)
        told.values[1] = (b"service/other", told.values[1][1])
        told.is_corrupt(1, "the key is not the subject's root")

    def test_a_record_whose_end_is_cut_off(self):
        told = scene().begins("w1").appends("w1", *SERVED)
        for length in (40, 200, -1):
            told.changed(1, told.values[1][1][:length]).is_corrupt(1, "no document of ours")

    def test_a_sealed_record_without_a_term(self):
        document = b'{"specversion":"1.0","type":"muster.x.v1","subject":"service/orders"}'
        scene().begins("w1").raw(b"service/orders", sealed(b"service/orders", document)).is_corrupt(
            1, "the bytes are no document of ours"
        )

    def test_what_came_before_the_damage_is_handed_out(self):
        told = scene().begins("w1").appends("w1", *DRAINED).appends("w1", *SERVED)
        told.changed(3, told.values[3][1].replace(b"maintenance", b"mainTenance"))
        batches = Chain(0, START).follow((position, *pair) for position, pair in enumerate(told.values))
        assert [[position for position, _ in next(batches).records] for _ in range(2)] == [[], [1, 2]]
        with pytest.raises(Corrupt):
            next(batches)


def test_any_flipped_byte_stops_the_partition_at_its_record():
    told = scene().begins("w1").appends("w1", *DRAINED).begins("w2").appends("w1", *SERVED).appends("w2", *SERVED)
    for position in range(len(told.values)):
        whole = told.values[position][1]
        for index in range(len(whole)):
            for mask in (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF):
                flipped = bytearray(whole)
                flipped[index] ^= mask
                _stops(told.changed(position, bytes(flipped)), position, keys=bool(mask & 0x01))
        told.changed(position, whole)
    told.has([1, 2], [5], voids=1)


def test_any_flipped_byte_of_a_key_stops_the_partition_at_its_record():
    told = scene().begins("w1").appends("w1", *DRAINED)
    for position, (key, value) in enumerate(list(told.values)):
        for index in range(len(key)):
            told.values[position] = (key[:index] + bytes([key[index] ^ 1]) + key[index + 1 :], value)
            _stops(told, position, keys=True)
        told.values[position] = (key, value)


def _stops(told: Scene, position: int, *, keys: bool) -> None:
    with pytest.raises(Corrupt) as stopped:
        told.read(keys=keys)
    assert stopped.value.context["position"] == position
