"""Processes that share a guard, and are killed while they check."""

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from muster import Guard, WriteFailed

pytestmark = pytest.mark.process
ROOT: Final = Path(__file__).parents[3]

CLIMB: Final = """
import sys
from muster import Guard, StaleEpoch

guard = Guard(sys.argv[1], wait_seconds=60)
while True:
    epoch = guard.epoch + 1
    try:
        guard.check(epoch)
    except StaleEpoch:
        continue
    print(epoch, flush=True)
"""

APPEND: Final = """
import sys
from muster import Guard, StaleEpoch

guard, first, count = Guard(sys.argv[1], wait_seconds=60), int(sys.argv[3]), int(sys.argv[4])
with open(sys.argv[2], "a", buffering=1) as file:
    for epoch in range(first, first + count):
        try:
            with guard.holding(epoch):
                print(epoch, file=file)
        except StaleEpoch:
            pass
"""


def started(program: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *words], stdout=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.parametrize("seed", range(6))
def test_an_epoch_that_was_admitted_outlives_a_kill_in_the_middle_of_checks(tmp_path: Path, seed: int) -> None:
    path, chance, admitted = tmp_path / "epoch", random.Random(seed), 0
    for _ in range(2):
        pair = [started(CLIMB, str(path)) for _ in range(2)]
        for process in pair:
            assert process.stdout is not None
            for _ in range(chance.randint(1, 40)):
                admitted = max(admitted, int(process.stdout.readline()))
        for process in pair:
            process.kill()
        for process in pair:
            rest, _ = process.communicate(timeout=30)
            # A line that was being written when the process was killed has no end.
            admitted = max([admitted, *(int(line) for line in rest.split("\n")[:-1] if line)])
            assert process.returncode == -signal.SIGKILL
        # Of each process one more epoch may be kept that it could not say any more.
        assert admitted <= Guard(path).epoch <= admitted + 2


def test_nothing_of_an_older_epoch_is_written_behind_a_newer_one(tmp_path: Path) -> None:
    path, entries = tmp_path / "epoch", tmp_path / "entries"
    writers = [started(APPEND, str(path), str(entries), str(first), "60") for first in (1, 20, 40)]
    for writer in writers:
        writer.communicate(timeout=100)
        assert writer.returncode == 0
    written = [int(line) for line in entries.read_text().splitlines()]
    assert written == sorted(written)
    assert written[-1] == Guard(path).epoch == 99


def test_a_stopped_process_in_the_middle_of_its_write_is_waited_for_and_not_overtaken(tmp_path: Path) -> None:
    path, entries = tmp_path / "epoch", tmp_path / "entries"
    freeze = """
import sys
from muster import Guard

with Guard(sys.argv[1]).holding(7), open(sys.argv[2], "a") as file:
    print("holds", flush=True)
    sys.stdin.readline()
    print(7, file=file)
"""
    words = [sys.executable, "-c", freeze, str(path), str(entries)]
    older = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert older.stdout is not None
    assert older.stdout.readline() == "holds\n"
    older.send_signal(signal.SIGSTOP)
    newer = started(APPEND, str(path), str(entries), "8", "1")
    turn = Guard(path, wait_seconds=0.2)
    with pytest.raises(WriteFailed, match="was held by another check"):
        turn.check(9)
    assert (turn.epoch, newer.poll()) == (7, None)
    older.send_signal(signal.SIGCONT)
    older.communicate("go on\n", timeout=60)
    newer.communicate(timeout=60)
    assert entries.read_text().split() == ["7", "8"]


def test_a_child_that_was_forked_within_holding_does_not_keep_the_lock(tmp_path: Path) -> None:
    fork = """
import os, sys
from muster import Guard, WriteFailed

guard = Guard(sys.argv[1], wait_seconds=5)
with guard.holding(7):
    if not (child := os.fork()):
        sys.stdin.read()
        os._exit(0)
try:
    guard.check(8)
    print("admitted", flush=True)
except WriteFailed:
    print("refused", flush=True)
os.waitpid(child, 0)
"""
    words = [sys.executable, "-c", fork, str(tmp_path / "epoch")]
    parent = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    said = parent.stdout.readline()
    parent.communicate(timeout=60)
    assert said == "admitted\n"
