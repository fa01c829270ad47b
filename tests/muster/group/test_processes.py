"""What a runner starts, and how it ends, with real processes."""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from muster.clock import elapsed_seconds
from muster.group.process import shell
from muster.group.process.child import StartedProcess, told_of
from muster.group.process.hook import Hook, HookError, _Output, output_bytes_max
from muster.group.process.shell import TOO_LATE, checked
from muster.group.process.tree import MARK, kill_below, kill_children, kill_tree, own_children, tree_of
from muster.group.process.warden import kill_all
from muster.group.runner import Runner, RunSettings
from muster.wire import DEFAULT_URL

pytestmark = pytest.mark.process


def hook(command: str, seconds: float = 30.0) -> Hook:
    return Hook(name="promote", command=command, seconds=seconds)


async def run(command: str, document: bytes = b"") -> str:
    return await hook(command).run(os.environ, document, until=math.inf)


@pytest.mark.parametrize("more", [{}, {"of.another": "kind"}])
async def test_what_comes_too_late_does_not_begin(tmp_path: Path, more: dict[str, str]) -> None:
    there, environment = tmp_path / "there", {**os.environ, **more}
    late = StartedProcess(["touch", str(there)], environment, until=elapsed_seconds())
    assert await late.ended == TOO_LATE
    assert not there.exists()
    in_time = StartedProcess(["touch", str(there)], environment, until=elapsed_seconds() + 600)
    assert await in_time.ended == 0
    assert there.exists()


@pytest.mark.parametrize("more", [{}, {"of.another": "kind"}])
async def test_a_process_has_the_environment_and_the_arguments_that_it_was_given(
    tmp_path: Path, more: dict[str, str]
) -> None:
    said = tmp_path / "said"
    code = "import os, sys; print(sys.argv[1:], os.environ['ODD'], os.environ.get('of.another'), file=open(sys.argv[1], 'w'))"
    command, odd = [sys.executable, "-c", code, str(said), "a b", "$HOME", "'"], "quote ' and\nline"
    started = StartedProcess(command, {**os.environ, "ODD": odd, **more}, until=math.inf)
    assert await started.ended == 0
    assert said.read_text() == f"{command[3:]} {odd} {more.get('of.another')}\n"


async def test_a_program_that_is_not_there_cannot_be_started() -> None:
    with pytest.raises(OSError, match="no such program"):
        StartedProcess(["/is/not/there"], os.environ, until=math.inf)


async def test_the_end_of_a_process_is_told_as_it_was() -> None:
    killed = StartedProcess(["sh", "-c", "kill -9 $$"], os.environ, until=math.inf)
    assert told_of(await killed.ended) == "killed by SIGKILL"
    ended = StartedProcess(["sh", "-c", "exit 7"], os.environ, until=math.inf)
    assert told_of(await ended.ended) == "exit code 7"


async def test_a_hook_reads_what_it_is_told_and_what_it_puts_out_is_kept() -> None:
    assert await run("cat; echo ' and an error' >&2", b"the group") == "the group and an error\n"


async def test_a_hook_that_reads_nothing_is_no_obstacle() -> None:
    assert await run("echo done", b"x" * 1_000_000) == "done\n"


async def test_only_the_end_of_much_output_is_kept() -> None:
    said = await run("for i in $(seq 5000); do echo line $i; done")
    assert len(said) <= output_bytes_max
    assert said.endswith("line 5000\n")


async def test_a_hook_fails_with_what_it_has_put_out() -> None:
    with pytest.raises(HookError, match=r"^promote hook: exit code 3: no\\x1b room$"):
        await run(r"printf 'no\033 room'; exit 3")


async def test_nobody_waits_for_what_a_hook_has_left_behind(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    # It holds the pipe of the hook open for as long as it lives.
    assert await run(f"sleep 1000 & echo $! > {pid}; echo done") == "done\n"
    kill_below(int(pid.read_text()))


@pytest.mark.timeout(20)
async def test_of_what_is_put_out_on_and_on_only_so_much_is_read_at_the_end() -> None:
    # It gives eight bytes at each reading, for many minutes, as a pipe that others keep full would.
    endless = os.eventfd((1 << 32) - 1, os.EFD_SEMAPHORE)
    assert _Output(endless).close() != ""


async def test_a_hook_that_cannot_be_given_its_input_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "is not there"))
    with pytest.raises(HookError, match=r"^promote hook: it could not be started: .*is not there"):
        await run("true")


async def test_a_check_that_goes_on_to_fail_is_told_as_often_as_it_says_something_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    why = tmp_path / "why"
    runner = Runner(
        RunSettings(group="db", member="db1", command=("true",), check=f"cat {why}; exit 1", urls=(DEFAULT_URL,))
    )
    for said in ("full", "full", "full", "gone", "gone"):
        why.write_text(said)
        with pytest.raises(HookError):
            await runner._check()
    assert [one.message for one in caplog.records if one.levelname == "ERROR"] == [
        "check hook: exit code 1: full",
        "check hook: exit code 1: gone",
    ]


def test_a_tree_holds_what_has_left_its_session_and_not_what_is_spared() -> None:
    parent = subprocess.Popen(
        ["sh", "-c", "setsid sleep 1000 & sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert parent.stdout is not None
        spared = int(parent.stdout.readline())
        found = tree_of(parent.pid, "no mark")
        assert spared in found
        # The other one may be a moment late with its own session, but not with being there.
        assert len(found) == 2
        assert tree_of(parent.pid, "no mark", spared=[spared]) == found - {spared}
    finally:
        kill_below(parent.pid)
        parent.wait()


def test_of_a_runner_that_is_dead_the_tree_is_found_by_the_mark() -> None:
    mark, code = (
        "a-mark-of-its-own",
        "import os; os.setsid(); print(os.getpid(), flush=True); os.execlp('sleep', 'sleep', '1000')",
    )
    orphan = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, MARK: mark})
    dead = subprocess.Popen(["true"])
    dead.wait()
    try:
        assert orphan.stdout is not None
        assert int(orphan.stdout.readline()) == orphan.pid
        assert tree_of(dead.pid, "another mark") == set()
        assert kill_tree(dead.pid, mark) == {orphan.pid}
        assert orphan.wait() < 0
    finally:
        kill_below(orphan.pid)


def test_a_process_that_just_begins_another_program_is_not_overlooked(tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.write_text('#!/bin/sh\nexec "$0"\n')
    again.chmod(0o755)
    dead = subprocess.Popen(["true"])
    dead.wait()
    # It is nearly always about to. For that moment a process shows no environment, and so no mark.
    for number in range(20):
        mark = f"mark-{number}"
        orphan = subprocess.Popen([again], env={**os.environ, MARK: mark})
        try:
            kill_all(dead.pid, mark)
            assert orphan.wait(1) < 0
        finally:
            orphan.kill()
            orphan.wait()


def test_children_are_killed_with_all_that_they_have_started() -> None:
    parent = subprocess.Popen(
        ["sh", "-c", "setsid sh -c 'sleep 1000 & echo $!; wait' & wait"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    below = int(parent.stdout.readline())
    if not own_children():
        pytest.skip("the system does not list them")
    kill_children([parent.pid])
    assert parent.wait() < 0
    until(lambda: not Path(f"/proc/{below}").exists() or ended(below))


async def test_a_hook_that_comes_too_late_does_not_begin(tmp_path: Path) -> None:
    there = tmp_path / "there"
    with pytest.raises(HookError, match=f"exit code {TOO_LATE}$"):
        await hook(f"touch {there}").run(os.environ, b"", until=elapsed_seconds())
    assert not there.exists()
    await hook(f"touch {there}").run(os.environ, b"", until=elapsed_seconds() + 600)
    assert there.exists()


# No shell passes the second one on, so that is a fork.
@pytest.mark.parametrize("more", [{}, {"of.another": "kind"}])
def test_what_was_started_dies_with_who_has_started_it(more: dict[str, str]) -> None:
    code = f"""
import asyncio, math, os
from muster.group.process.child import StartedProcess
async def main():
    print(StartedProcess(['sleep', '1000'], {{**os.environ, **{more}}}, until=math.inf).pid, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""
    runner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert runner.stdout is not None
        pid = int(runner.stdout.readline())
        sleeps = f"/proc/{pid}/comm"
        until(lambda: Path(sleeps).read_text() == "sleep\n")
    finally:
        runner.kill()
        runner.wait()
    until(lambda: not Path(sleeps).exists() or ended(pid))


def test_a_shell_whose_parent_has_died_meanwhile_does_not_begin(tmp_path: Path) -> None:
    there = tmp_path / "there"
    line = checked(["touch", str(there)], os.environ, math.inf)
    if line is None:
        pytest.skip("there is no setpriv that knows the parent-death signal")
    # Made for this process, and run below another one.
    assert subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", *line], check=False).returncode == TOO_LATE
    assert not there.exists()
    assert subprocess.run(line, check=False).returncode == 0
    assert there.exists()


def test_there_is_a_fork_where_a_shell_cannot_look_at_the_runners_clock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uptime = tmp_path / "uptime"
    uptime.write_text(f"{elapsed_seconds() - 3600:.2f} 1.00\n")
    monkeypatch.setattr(shell, "_UPTIME", uptime)
    shell._setpriv.cache_clear()
    try:
        assert checked(["true"], os.environ, math.inf) is None
    finally:
        shell._setpriv.cache_clear()


def test_children_are_listed_until_they_were_waited_for() -> None:
    child = subprocess.Popen(["true"])
    if (found := own_children()) is None:
        pytest.skip("the system does not list them")
    assert child.pid in found
    child.wait()
    assert child.pid not in (own_children() or ())


def until(holds: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends_at, "it did not come to that"
        time.sleep(0.01)


def ended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
