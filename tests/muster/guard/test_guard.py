"""The guard of a resource: what it lets through, what it keeps, and what it makes of a file that is not as it left it."""

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from muster import Corrupt, Guard, InvalidCommand, ReadFailed, StaleEpoch, WriteFailed
from muster.guard.guard import EPOCH_MAX

EPOCHS = st.one_of(st.integers(1, 12), st.integers(1, EPOCH_MAX))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "epoch"


def test_a_lower_epoch_is_refused_with_the_newer_one(path: Path) -> None:
    guard = Guard(path)
    assert guard.epoch == 0
    guard.check(7)
    guard.check(7)
    with pytest.raises(StaleEpoch, match="epoch 6 is over") as refused:
        guard.check(6)
    assert refused.value.context == {"epoch": 7}
    assert (guard.epoch, Guard(path).epoch) == (7, 7)


@pytest.mark.parametrize("epoch", [0, -1, True, 7.0, "7", None, EPOCH_MAX + 1])
def test_what_is_no_epoch_is_refused(path: Path, epoch: object) -> None:
    guard = Guard(path)
    with pytest.raises(InvalidCommand) as refused:
        guard.check(epoch)  # type: ignore[arg-type]
    assert refused.value.context == {"field": "epoch"}
    assert guard.epoch == 0


class Handles(RuleBasedStateMachine):
    """Any checks by several guards of one file, opened at any time, which all behave as one number that only grows."""

    @initialize(folder=st.uuids())
    def begin(self, folder: object) -> None:
        self.path = self.root / f"{folder}" / "epoch"
        self.path.parent.mkdir(exist_ok=True)
        for left in self.path.parent.iterdir():
            left.unlink()
        self.highest = 0
        self.guards = [Guard(self.path), Guard(self.path)]

    @rule(which=st.integers(0, 1), epoch=EPOCHS)
    def check(self, which: int, epoch: int) -> None:
        if epoch < self.highest:
            with pytest.raises(StaleEpoch) as refused:
                self.guards[which].check(epoch)
            assert refused.value.context["epoch"] == self.highest
        else:
            self.guards[which].check(epoch)
            self.highest = epoch

    @rule(which=st.integers(0, 1), epoch=EPOCHS)
    def write_and_fail(self, which: int, epoch: int) -> None:
        def write() -> None:
            with self.guards[which].holding(epoch):
                raise ZeroDivisionError

        # A write that fails has still shown its epoch, and lets go of the lock.
        with pytest.raises(StaleEpoch if epoch < self.highest else ZeroDivisionError):
            write()
        self.highest = max(self.highest, epoch)

    @rule(which=st.integers(0, 1))
    def reopen(self, which: int) -> None:
        self.guards[which] = Guard(self.path)

    @rule(left=st.binary(max_size=40))
    def leave_half_a_file_behind(self, left: bytes) -> None:
        self.path.with_name("epoch.new").write_bytes(left)

    @invariant()
    def all_know_the_highest(self) -> None:
        assert {guard.epoch for guard in self.guards} == {self.highest}


def test_any_checks_by_several_guards_of_a_file(tmp_path: Path) -> None:
    class HandlesHere(Handles):
        root = tmp_path

    HandlesHere.TestCase.settings = settings(max_examples=60, stateful_step_count=15)
    HandlesHere.TestCase().runTest()


@given(data=st.data())
def test_a_file_that_is_damaged_is_told_and_is_no_other_epoch(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "epoch"
    Guard(path).check(data.draw(EPOCHS))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                whole[:at],
                whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :],
                whole + whole[: at + 1],
                data.draw(st.binary(max_size=100)),
            ]
        )
    )
    path.write_bytes(damaged)
    with pytest.raises(Corrupt, match="no file of a guard, or is damaged"):
        Guard(path)


@pytest.mark.parametrize("content", [b"", b"7", b"7\n", b'{"epoch":7}', b"muster-guard 1 epoch=7 crc32=00000000\n"])
def test_a_file_of_somebody_else_is_no_guard_and_stays_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Corrupt):
        Guard(path)
    assert path.read_bytes() == content


def test_a_guard_whose_file_was_damaged_meanwhile_admits_nothing(path: Path) -> None:
    guard = Guard(path)
    guard.check(7)
    path.write_bytes(b"")
    with pytest.raises(Corrupt):
        guard.check(8)
    with pytest.raises(Corrupt):
        assert guard.epoch


def test_a_file_that_was_removed_or_put_back_is_told(path: Path) -> None:
    guard = Guard(path)
    guard.check(6)
    old = path.read_bytes()
    guard.check(7)
    path.write_bytes(old)
    with pytest.raises(Corrupt, match="is epoch 6, after epoch 7"):
        guard.check(7)
    path.unlink()
    with pytest.raises(Corrupt, match="is gone, after epoch 7"):
        guard.check(8)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed, match="there is no folder"):
        Guard(tmp_path / "away" / "epoch")
    with pytest.raises(ReadFailed):
        Guard(tmp_path)


def test_an_epoch_that_cannot_be_kept_is_not_admitted(path: Path) -> None:
    guard = Guard(path)
    guard.check(7)
    path.with_name("epoch.new").mkdir()
    with pytest.raises(WriteFailed, match="epoch 8 could not be kept"):
        guard.check(8)
    assert guard.epoch == 7
    guard.check(7)


def test_a_link_and_its_file_are_one_guard(tmp_path: Path, path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    Guard(link).check(7)
    assert Guard(path).epoch == 7
    with pytest.raises(StaleEpoch):
        Guard(path).check(6)


class Synced:
    """What is on the disk for sure: the paths that were synced, in order, and the names that files were given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[str, str]] = []
        sync, replace = os.fsync, os.replace

        def fsync(file: int) -> None:
            self.told.append(("sync", Path(os.readlink(f"/proc/self/fd/{file}")).name))
            sync(file)

        def replaced(source: str | Path, target: str | Path) -> None:
            self.told.append(("name", Path(target).name))
            replace(source, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", replaced)


def test_a_higher_epoch_is_on_the_disk_and_an_equal_one_costs_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, synced = Guard(path), Synced(monkeypatch)
    folder = path.parent.name
    guard.check(7)
    assert synced.told == [("sync", "epoch.new"), ("name", "epoch"), ("sync", folder)]
    guard.check(7)
    assert len(synced.told) == 3


def test_an_epoch_that_another_one_wrote_is_synced_before_it_is_relied_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard(path)
    Guard(path).check(7)
    synced = Synced(monkeypatch)
    guard.check(7)
    assert synced.told == [("sync", "epoch"), ("sync", path.parent.name)]
    guard.check(7)
    assert len(synced.told) == 2


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def until_it_waits(path: Path, checking: threading.Thread) -> None:
    """Until a check waits at the guard's lock, or has come through."""
    turn, ends_at = path.with_name("epoch.turn"), time.monotonic() + 30
    while checking.is_alive() and not is_locked(turn):
        assert time.monotonic() < ends_at
        time.sleep(0.001)


def test_a_newer_check_waits_for_the_write_that_an_older_one_protects(path: Path) -> None:
    told: list[str] = []

    def check_newer() -> None:
        Guard(path, wait_seconds=30).check(8)
        told.append("newer")

    newer = threading.Thread(target=check_newer)
    with Guard(path).holding(7):
        newer.start()
        until_it_waits(path, newer)
        told.append("older")
    newer.join(timeout=30)
    assert told == ["older", "newer"]
    assert Guard(path).epoch == 8


def test_who_waits_goes_before_one_that_takes_the_lock_again_without_a_pause(path: Path) -> None:
    guard = Guard(path, wait_seconds=30)
    newer = threading.Thread(target=lambda: Guard(path, wait_seconds=30).check(8))
    with guard.holding(7):
        newer.start()
        until_it_waits(path, newer)
    with pytest.raises(StaleEpoch):
        guard.check(7)
    newer.join(timeout=30)


def test_who_does_not_get_the_lock_in_time_is_told(path: Path) -> None:
    with Guard(path).holding(7), pytest.raises(WriteFailed, match=r"held by another check, or a write, for 0\.05 s"):
        Guard(path, wait_seconds=0.05).check(8)
    assert Guard(path).epoch == 7


def test_threads_that_share_a_guard_agree(path: Path) -> None:
    guard = Guard(path, wait_seconds=60)
    admitted: list[int] = []

    def write(first: int) -> None:
        for epoch in range(first, first + 40):
            try:
                with guard.holding(epoch):
                    admitted.append(epoch)
            except StaleEpoch:
                pass

    threads = [threading.Thread(target=write, args=(first,)) for first in (1, 5, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert admitted == sorted(admitted)
    assert guard.epoch == admitted[-1] == 48


def test_links_that_lead_in_a_circle_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "epoch").symlink_to(tmp_path / "epoch")
    with pytest.raises(ReadFailed, match="cannot be read"):
        Guard(tmp_path / "epoch").check(1)
