"""The warden: a tiny process beside a runner that kills what the runner has started, if the runner itself does not.

    the runner writes:  "<instant>\\n"   until when what it runs may run (muster.clock.elapsed_seconds; inf: there is no limit)
    the instant passes:  the runner hangs. All that it has started is killed
    the pipe ends:       the runner is dead. The same, and the warden ends

It knows nothing else: no group, no controller, no reason. A host that is frozen as a whole thaws with both of them; against
that only whoever is written to can guard, by the epoch.
"""

import math
import os
import select
import sys
import time
from typing import Final

from muster.clock import elapsed_seconds
from muster.group.process.tree import is_alive, kill_tree

look_again_seconds: Final = 0.1
"""How long it sleeps at most: a timer of the system may stand still while the machine is suspended, its clock does not."""
again_seconds: Final = 0.002
quiet_looks: Final = 6


def watch(runner: int, mark: str, pipe: int) -> None:
    """Be the warden of this runner, until the pipe ends."""
    until, rest = math.inf, b""
    while True:
        left = until - elapsed_seconds()
        if left <= 0:
            # The runner has had its own chance before this, at a smaller share of the lease.
            kill_all(runner, mark)
            until = math.inf
            continue
        # Whatever comes first: another instant, the end of the pipe, or the instant itself.
        readable, _, _ = select.select([pipe], [], [], None if left == math.inf else min(left, look_again_seconds))
        if not readable:
            continue
        read = os.read(pipe, 65_536)
        if not read:
            return kill_all(runner, mark)
        # Only the newest instant counts; several may have come while this process was not scheduled.
        *lines, rest = (rest + read).split(b"\n")
        if lines:
            until = float(lines[-1])


def kill_all(runner: int, mark: str) -> None:
    """Kill until nobody is left: one that is killed may just have started another."""
    pause, quiet = again_seconds, 0
    while quiet < quiet_looks:
        # A process that just begins another program has no environment for that moment, and so no mark. Where that is what it
        # is found by, one look at which nobody was there is not enough.
        quiet = 0 if kill_tree(runner, mark) else quiet + 1
        if quiet and is_alive(runner):
            return
        time.sleep(pause)
        pause = min(2 * pause, look_again_seconds)


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.argv[2], sys.stdin.fileno())
