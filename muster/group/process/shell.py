"""The start of a hook or a command without a fork of the runner. Nothing but the standard library.

A fork of a process of 50 MB takes 5 to 15 ms on a virtual machine, and stops the runner's loop for as long. Without one nothing
of ours runs in the child before its program does, so what has to be looked at there is looked at by a shell: it asks for the
parent-death signal through `setpriv`, and then, as late as can be, who its parent is and whether it is too late:

    setpriv --pdeathsig KILL ▸ /bin/sh: our parent lives, it is not `until` yet ▸ exec COMMAND

It is a fork all the same where the system has no such `setpriv`, where /proc/uptime is of another clock (LXC shows a container
its own), and where a name in the environment is none that a shell passes on (`spring.profile`).
"""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from muster.clock import elapsed_seconds

SHELL: Final = "/bin/sh"
TOO_LATE: Final = 124
"""The exit code of a process that was not begun, because it was too late for it."""

_UPTIME: Final = Path("/proc/uptime")
_APART_SECONDS_MAX: Final = 0.5
_NEVER_CENTISECONDS: Final = 10**15
# /proc/uptime has hundredths of a second; without the dot they are a whole number, which a shell can compare.
_CHECKS: Final = f"""[ "$PPID" = "$1" ] && read -r up _ </proc/uptime && [ "${{up%.*}}${{up#*.}}" -lt "$2" ] || exit {TOO_LATE}
shift 2
exec "$@"
"""


def checked(command: Sequence[str], environment: Mapping[str, str], until: float) -> list[str] | None:
    """The command with the checks before it, which needs no fork; None: they cannot be had here. Raises OSError if there is no
    such program.
    """
    setpriv = _setpriv()
    if setpriv is None or not all(name.isascii() and name.isidentifier() for name in environment):
        return None
    if shutil.which(command[0], path=environment.get("PATH", os.defpath)) is None:
        raise FileNotFoundError(errno.ENOENT, "no such program, or it may not be executed", command[0])
    centiseconds = int(min(until * 100, _NEVER_CENTISECONDS))
    about = (str(os.getpid()), str(centiseconds))
    return [setpriv, "--pdeathsig", "KILL", SHELL, "-c", _CHECKS, SHELL, *about, *command]


@cache
def _setpriv() -> str | None:
    """The program, if it knows the parent-death signal and the shell can look at our clock. Tried once."""
    program = shutil.which("setpriv") if sys.platform == "linux" else None
    if program is None or not _is_our_clock():
        return None
    tried = subprocess.run([program, "--pdeathsig", "KILL", "true"], capture_output=True, check=False)
    return program if tried.returncode == 0 else None


def _is_our_clock() -> bool:
    try:
        up = float(_UPTIME.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return False
    return abs(up - elapsed_seconds()) < _APART_SECONDS_MAX
