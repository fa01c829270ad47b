"""Every process that a runner has started, however it came to be, and the end of them all. Nothing but the standard library.

A process is found by its ancestors: the runner is the subreaper of all that it starts, so whoever loses its parent becomes the
runner's own child, and starting a session does not hide it. When the runner is dead, by the runner's mark in the environment
that it was started with, which is inherited. What neither finds: a process that some other program starts on request (systemd,
cron, a container's daemon, ssh), and after the death of the runner one that has changed its environment on the way (`env -i`,
`sudo`). Where there is no /proc only the process groups of the runner's children are found.
"""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

MARK: Final = "MUSTER_RUNNER"
"""The environment variable with the runner's mark."""

_PROC: Final = Path("/proc")


def kill_tree(runner: int, mark: str, spared: Iterable[int] = (), groups: Iterable[int] = ()) -> set[int]:
    """SIGKILL to all that the runner has started, but for the `spared` and what those have started. Returns who that was; only
    when it is nobody any more is it sure that none has started another one meanwhile. `groups`: for where there is no /proc.
    """
    if not _PROC.joinpath("self", "stat").exists():
        return {group for group in groups if _kill_group(group)}
    found = tree_of(runner, mark, spared)
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return found


def tree_of(runner: int, mark: str, spared: Iterable[int] = ()) -> set[int]:
    """All that the runner has started and that has not ended, but for the `spared` and what those have started."""
    parents = _parents()
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in parents.items():
        children.setdefault(parent, []).append(pid)
    # While the runner lives nothing can leave its tree: it is the subreaper. Only after that the mark has to be looked for.
    found = _below(runner, children)
    if not _lives(runner, parents):
        found |= {pid for pid in parents if _has(pid, mark)}
        found |= {below for pid in list(found) for below in _below(pid, children)}
    kept = {pid for one in spared for pid in (one, *_below(one, children))}
    return {pid for pid in found - kept - {runner, os.getpid()} if not parents.get(pid, (0, True))[1]}


def is_alive(pid: int) -> bool:
    """Whether the process has not ended."""
    return _lives(pid, _parents())


def _lives(pid: int, parents: dict[int, tuple[int, bool]]) -> bool:
    return pid in parents and not parents[pid][1]


def kill_children(children: Iterable[int]) -> None:
    """SIGKILL to these children of this process, and to all that they have started, as far as the lists of children tell: what
    has just lost its parent may be missing in them, and is a child of this process by the next look at its own.
    """
    found, ahead = set[int](), list(children)
    while ahead:
        pid = ahead.pop()
        if pid not in found:
            found.add(pid)
            ahead += _listed(pid) or ()
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def kill_below(pid: int) -> None:
    """SIGKILL to the process and to all that it has started, as long as it has not ended itself."""
    children: dict[int, list[int]] = {}
    for one, (parent, _) in _parents().items():
        children.setdefault(parent, []).append(one)
    for one in (pid, *_below(pid, children)):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)


def reap(known: Iterable[int]) -> None:
    """Take note of the end of orphans that have become this process's own children; `known` are looked after elsewhere."""
    children, kept = own_children(), set(known)
    for pid in _children_by_search() if children is None else children:
        if pid not in kept:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def own_children() -> set[int] | None:
    """The children of this process, also those that have ended and were not waited for; None: the system does not list them.

    Whoever is below a subreaper has one of these for an ancestor: if there are none, nothing that it has started lives. The list
    is whole as long as nobody waits for a child in another thread while it is read: only what was waited for leaves it.
    """
    return _listed("self")


def _listed(pid: int | str) -> set[int] | None:
    """The children of the process as the system lists them; None: it has ended, or the system does not."""
    found: set[int] = set()
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as children:
                found.update(map(int, children.read().split()))
    except OSError:
        return None
    return found


def _children_by_search() -> set[int]:
    return {pid for pid, (parent, _) in _parents().items() if parent == os.getpid()}


def _parents() -> dict[int, tuple[int, bool]]:
    """The parent of each process, and whether it has ended and is only not waited for."""
    found: dict[int, tuple[int, bool]] = {}
    if not _PROC.exists():
        return found
    for name in os.listdir(_PROC):
        if name.isdecimal():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                # The name of the program stands in brackets, and may hold blanks and brackets.
                state, parent = stat.read().rpartition(b")")[2].split()[:2]
                found[int(name)] = int(parent), state in (b"Z", b"X")
    return found


def _below(pid: int, children: dict[int, list[int]]) -> set[int]:
    found: set[int] = set()
    ahead = [pid]
    while ahead:
        fresh = [child for child in children.get(ahead.pop(), ()) if child not in found]
        found.update(fresh)
        ahead += fresh
    return found


def _has(pid: int, mark: str) -> bool:
    try:
        environment = _PROC.joinpath(str(pid), "environ").read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return False
    return f"{MARK}={mark}".encode() in environment.split(b"\0")


def _kill_group(group: int) -> bool:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True
