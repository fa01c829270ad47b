"""The recorder of SQLite files: what its one statement for a whole batch must keep."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from eventsourcing.persistence import IntegrityError, PersistenceError, StoredEvent

from infra.sqlite.log import LogRecorder


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[LogRecorder]:
    with closing(LogRecorder(tmp_path / "log.sqlite")) as recorder:
        recorder.create_table()
        yield recorder


def batch(*positions: int) -> list[StoredEvent]:
    return [StoredEvent("of another name", position, f"type {position}", b"%d" % position) for position in positions]


def values(recorder: LogRecorder) -> list[tuple[int, None, bytes]]:
    return [tuple(record) for record in recorder.select_records("muster.events/0", -1, 2**62)]


def test_a_batch_is_stored_under_the_given_name_whatever_its_size(recorder: LogRecorder) -> None:
    for first, size in ((0, 1), (1, 2), (3, 2_000), (2_003, 1)):
        recorder.insert_records("muster.events/0", batch(*range(first, first + size)))
    assert values(recorder) == [(position, None, b"%d" % position) for position in range(2_004)]
    assert recorder.select_events("muster.events/0", gt=1, lte=2) == [StoredEvent("muster.events/0", 2, "type 2", b"2")]


def test_of_a_batch_that_meets_another_record_nothing_is_stored(recorder: LogRecorder) -> None:
    recorder.insert_records("muster.events/0", batch(0, 1))
    with pytest.raises(IntegrityError):
        recorder.insert_records("muster.events/0", batch(3, 2, 1))
    assert [position for position, _, _ in values(recorder)] == [0, 1]
    recorder.insert_records("muster.events/0", batch(2))
    assert [position for position, _, _ in values(recorder)] == [0, 1, 2]


def test_what_sqlite_cannot_do_is_an_error_of_the_recorder(tmp_path: Path) -> None:
    with closing(LogRecorder(tmp_path / "log.sqlite")) as recorder, pytest.raises(PersistenceError):
        recorder.insert_records("muster.events/0", batch(0))
