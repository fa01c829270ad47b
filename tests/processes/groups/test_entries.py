"""The check of the file finds each thing that must not be there, and nothing else."""

from datetime import UTC, datetime
from typing import Final

from muster.wire.registry.answers import Event
from tests.processes.groups.entries import Entry, Reign, misnumbered, outlived, overlaps, reigns_of, strangers

REIGNS: Final = {1: Reign("db1", 100.0, "lease"), 2: Reign("db2")}


def entries(*of: tuple[int, str, int, float]) -> list[Entry]:
    """Entries of one process for each epoch."""
    return [Entry(epoch, member, number, at, process=epoch) for epoch, member, number, at in of]


SOUND: Final = entries((1, "db1", 1, 98.0), (1, "db1", 2, 99.0), (2, "db2", 1, 101.0))


def found_in(found: list[Entry]) -> list[list[str]]:
    """What each check finds, from the ordering to the times."""
    return [[*overlaps(found)], [*misnumbered(found)], [*strangers(found, REIGNS)], [*outlived(found, REIGNS)]]


def test_a_sound_file_is_found_sound() -> None:
    assert found_in(SOUND) == [[], [], [], []]


def test_an_older_epoch_behind_a_newer_one_is_found() -> None:
    late = [*SOUND, *entries((1, "db1", 3, 99.5), (2, "db2", 2, 102.0))]
    assert found_in(late) == [
        ["entry 3 of db1 (process 1) for epoch 1 stands behind entry 1 of db2 (process 2) for epoch 2"],
        [],
        [],
        [],
    ]


def test_what_is_missing_or_doubled_is_found() -> None:
    assert [len(found) for found in found_in(entries((1, "db1", 2, 98.0)))] == [0, 1, 0, 0]
    assert [len(found) for found in found_in(entries((1, "db1", 1, 98.0), (1, "db1", 3, 98.1)))] == [0, 1, 0, 0]
    assert [len(found) for found in found_in(entries((1, "db1", 1, 98.0), (1, "db1", 1, 98.1)))] == [0, 1, 0, 0]


def test_an_epoch_that_is_nobodys_or_another_members_is_found() -> None:
    assert [len(found) for found in found_in(entries((3, "db1", 1, 98.0)))] == [0, 0, 1, 0]
    assert [len(found) for found in found_in(entries((2, "db1", 1, 98.0)))] == [0, 0, 1, 0]


def test_what_is_written_behind_the_recorded_end_of_its_epoch_is_found() -> None:
    late = entries((1, "db1", 1, 98.0), (1, "db1", 2, 100.25))
    assert found_in(late)[3] == [
        "entry 2 of db1 (process 1) for epoch 1 was written 250.0 ms after the epoch had ended (lease)"
    ]


def test_epochs_are_read_from_the_log_and_one_that_was_given_back_has_not_ended_by_itself() -> None:
    told = [("member_promoted", 1, "db1"), ("reclaimed", 2, "db1"), ("primary_ended", 2, "db1")]
    events = [
        Event(
            position=place,
            at=datetime.fromtimestamp(place, UTC),
            type=f"muster.group.{type_}.v1",
            data={"epoch": epoch, "member": member, "how": "said"},
            partition=0,
            stream="group/db",
        )
        for place, (type_, epoch, member) in enumerate(told)
    ]
    assert reigns_of(events) == {1: Reign("db1", None, "given back"), 2: Reign("db1", 2.0, "said")}
