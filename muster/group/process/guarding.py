"""The lease of what a runner runs: killed in time by the runner, or by the warden if the runner does not.

renewal accepted ──▶ the instants move on ──0.5 of the lease──▶ asked to stop ──0.8──▶ killed ──0.85──▶ killed by the warden
"""

import asyncio
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Final

from muster.clock import elapsed_seconds
from muster.group.conduct import KILL_SHARE, WARDEN_SHARE, stood_still, stop_instant
from muster.group.process.child import RUNNING, adopt_orphans, any_ended
from muster.group.process.tree import MARK, kill_children, kill_tree, own_children, reap
from muster.group.progress import LOG

look_again_seconds: Final = 0.1
"""How long it sleeps at most: the loop's timers stand still while the machine is suspended."""
again_seconds: Final = 0.002
reap_every_seconds: Final = 5.0


class Guarding:
    """Until when what is run may run. `mark` is what all its processes carry in their environment; `spared` are left alone
    when the runner kills. `ask` asks what runs to stop; `asked`: it was, and nothing has been renewed since.
    """

    def __init__(self, mark: str, ask: Callable[[], None]) -> None:
        self.mark = mark
        self.asked = False
        self._ask = ask
        self._lease = (math.inf, 0.0)
        self._stood_until = -math.inf
        self._ask_at = math.inf
        self.until = math.inf
        self.spared: set[int] = set()
        self._warden: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """From now on orphans are ours, and the warden watches."""
        adopt_orphans()
        environment = {name: text for name, text in os.environ.items() if name != MARK}
        # A session of its own: what ends the runner from a terminal must not end the warden too.
        self._warden = subprocess.Popen(
            [sys.executable, "-P", "-m", "muster.group.process.warden", str(os.getpid()), self.mark],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        assert self._warden.stdin is not None, "a warden without its pipe"
        # One that hangs reads no more; the runner must not wait for it.
        os.set_blocking(self._warden.stdin.fileno(), False)

    def close(self) -> None:
        """Let the warden end. Whatever runs by then is killed by it."""
        if self._warden is not None and self._warden.stdin is not None:
            self._warden.stdin.close()
            self._warden.wait()

    def renewed(self, renewed_at: float, lease_seconds: float) -> None:
        """The lease counts from this instant."""
        self.asked = False
        self._lease = renewed_at, lease_seconds
        self._ask_at = stop_instant(*self._lease, self._stood_until)
        self.until = renewed_at + lease_seconds * KILL_SHARE
        self._tell(renewed_at + lease_seconds * WARDEN_SHARE)

    def lift(self) -> None:
        """Nothing runs that needs the lease."""
        self.asked = False
        self._ask_at = self.until = math.inf
        self._tell(math.inf)

    async def run(self) -> None:
        """Kill all when the time is over, for as long as the runner runs; and see to it that there is a warden."""
        reaps_at = elapsed_seconds()
        while True:
            now = elapsed_seconds()
            if now >= self._ask_at:
                self.asked, self._ask_at = True, math.inf
                self._ask()
            # Before the warden does: it knows less, and would kill a demote hook too.
            if now >= self.until:
                LOG.error("the lease is lost: all that runs is killed")
                await self.kill()
                self.lift()
            if now >= reaps_at:
                self._reap()
                reaps_at = now + reap_every_seconds
            self._keep_warden()
            began = elapsed_seconds()
            due = min(self._ask_at, self.until, began + look_again_seconds)
            await asyncio.sleep(max(0.0, due - began))
            self._woke(began, due)

    def _woke(self, began: float, due: float) -> None:
        now = elapsed_seconds()
        if stood_still(began, due, now):
            self._stood_until = now
            if self._ask_at < math.inf:
                self._ask_at = stop_instant(*self._lease, now)

    async def kill(self) -> None:
        """SIGKILL to all that runs but for the `spared`, until nothing is left of it."""
        pause = again_seconds
        while killed := self._kill_left():
            # Not asleep for a fixed time: a failover waits for this.
            await any_ended(killed, pause)
            self._reap()
            pause = min(2 * pause, look_again_seconds)

    def _kill_left(self) -> set[int]:
        """SIGKILL to what is left; the children among it, or whatever was found."""
        children = own_children()
        if children is None:
            return kill_tree(os.getpid(), self.mark, self.spared | self._own(), RUNNING - self.spared)
        # Whoever lives below this process has one of these for an ancestor, so nothing is left when none is. Not by a search
        # of all processes: that takes milliseconds, and longer the more of them others run on this machine.
        left = children - self.spared - self._own()
        kill_children(left)
        return left

    def _reap(self) -> None:
        reap(RUNNING | self._own())

    def _own(self) -> set[int]:
        return {self._warden.pid} if self._warden is not None else set()

    def _keep_warden(self) -> None:
        if self._warden is not None and self._warden.poll() is not None:
            LOG.error("the warden has ended (%s): another one is started", self._warden.returncode)
            self.start()
            self._tell(self.until)

    def _tell(self, instant: float) -> None:
        if self._warden is None or self._warden.stdin is None:
            return
        try:
            os.write(self._warden.stdin.fileno(), f"{instant}\n".encode())
        except BlockingIOError:
            LOG.error("the warden reads no more")
        # It has ended: that is seen, and another one started.
        except BrokenPipeError:
            return
