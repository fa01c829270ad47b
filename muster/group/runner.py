"""The runner of a member, as a command: hooks and a process, switched as the group wants it, and dead before another one leads.

                 primary (the default)                        always
at the start     demote hook                                  demote hook, then CMD
promoted         promote hook, then CMD                       promote hook
demoted          CMD is stopped, then demote hook             demote hook, then CMD, if it has ended
CMD ends         as the primary: the epoch has ended          the same; as a standby it is started again

The demote hook runs at the start, because nobody knows what an earlier runner has left behind when it was killed.
"""

import asyncio
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal
from uuid import uuid4

import orjson

from muster.clock import elapsed_seconds
from muster.group.fencing import FenceTarget
from muster.group.membership import Membership
from muster.group.process.child import StartedProcess, told_of
from muster.group.process.guarding import Guarding
from muster.group.process.hook import Hook, HookError
from muster.group.process.tree import MARK
from muster.group.progress import LOG
from muster.group.standing import steady_seconds
from muster.wire.backoff import pause_seconds
from muster.wire.error import MusterError
from muster.wire.groups.answers import Role

restart_first_seconds: Final = 1.0
restart_longest_seconds: Final = 60.0
# Python's `isdigit` and `int` know the digits of all scripts, and `int` has its own limit.
_POSITION: Final = re.compile("[0-9]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What is run, and where it is heard of. `runs`: when the command does: as the primary, or always. Hooks are given as they
    stand on the command line; what is empty is not run.
    """

    group: str
    member: str
    command: tuple[str, ...]
    runs: Literal["primary", "always"] = "primary"
    promote: str = ""
    demote: str = ""
    check: str = ""
    position: str = ""
    fence: str = ""
    address: str = ""
    urls: Sequence[str] = ()
    cluster: str | None = None
    hook_timeout_seconds: float = 60.0
    stop_timeout_seconds: float = 10.0


class Runner:
    """Runs one member until it is told to stop. Belongs to one event loop, in the main thread."""

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._guarding = Guarding(uuid4().hex, self._ask)
        self._command: StartedProcess | None = None
        self._watching: set[asyncio.Task[None]] = set()
        self._is_to_end = False
        self._last_end = "it has not been started"
        self._starts = 0
        self._starts_at = 0.0
        # Why the member is not a clean standby: its demote hook has failed.
        self._unclean: str | None = None
        self._done: dict[str, int] = {}
        self._failures: dict[str, str] = {}
        self._was: Role | None = None
        self._membership = Membership(
            settings.group,
            settings.member,
            url=settings.urls,
            cluster=settings.cluster,
            address=settings.address,
            on_join=self._settle,
            on_promote=self._promote,
            on_demote=self._demote,
            on_lease=self._guarding.renewed,
            check=self._check,
            position=self._position if settings.position else None,
            fence=self._fence if settings.fence else None,
        )

    def stop(self) -> None:
        """Stop what runs, say so, and leave."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`, or until the membership ends. Raises what has ended it."""
        self._guarding.start()
        guarding = asyncio.create_task(self._guarding.run(), name="guarding")
        guarding.add_done_callback(self._unguarded)
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        try:
            await self._member(stopping)
        finally:
            stopping.cancel()
            await self._end_command()
            guarding.cancel()
            await self._guarding.kill()
            self._guarding.close()

    def _unguarded(self, guarding: "asyncio.Task[None]") -> None:
        """Stop, if nothing is left that would end what runs in time: no process may be started for a warden, for instance."""
        if not guarding.cancelled() and (error := guarding.exception()) is not None:
            LOG.error("what is run is not guarded any more, so it is stopped: %s", error)
            self.stop()

    async def _member(self, stopping: "asyncio.Task[bool]") -> None:
        # Not `async with`: a signal has to end the waiting for a controller too.
        entering = asyncio.create_task(self._membership.__aenter__())
        await asyncio.wait({entering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not entering.done():
            entering.cancel()
            await asyncio.wait({entering})
            return
        entering.result()
        ended = asyncio.create_task(self._membership.ended())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._membership.__aexit__(None, None, None)
        await ended

    # What the membership wants

    async def _settle(self) -> None:
        await self._clean()
        self._was = "standby"
        if self._always:
            self._start("standby")

    async def _promote(self, epoch: int) -> None:
        if self._always and not self._runs:
            raise MusterError(f"the command does not run: {self._last_end}")
        await self._hooked("promote", "primary", epoch, until=self._guarding.until)
        if not self._always:
            self._start("primary")
        self._was = "primary"

    async def _demote(self, epoch: int) -> None:
        stops, self._is_to_end = self._stopping.is_set(), True
        if not self._always or stops or self._guarding.asked:
            await self._end_command()
        # Whatever it comes to, the member acts as the primary no more after this: that is what the group has to know.
        try:
            await self._clean()
        except HookError:
            await self._end_command()
        if not self._runs:
            await self._guarding.kill()
        self._guarding.lift()
        self._was, self._is_to_end = "standby", False
        if self._always and not stops and self._unclean is None:
            self._start("standby")

    async def _check(self) -> None:
        if self._membership.role == "standby":
            if self._unclean is not None:
                await self._clean()
            if self._always:
                self._restart()
        if self._settings.check:
            await self._hooked("check", self._membership.role, self._epoch, quiet=True)

    async def _position(self) -> int:
        said = await self._hooked("position", self._membership.role, self._epoch, quiet=True)
        last = said.strip().rpartition("\n")[2]
        if not _POSITION.fullmatch(last):
            raise HookError(f"position hook: its last line is to be a whole number, and is {last[:100]!r}")
        return int(last)

    async def _fence(self, target: FenceTarget) -> str:
        """Have the primary fenced, which is another member. Beside all other hooks: it is about another host."""
        hook = Hook(name="fence", command=self._settings.fence, seconds=self._settings.hook_timeout_seconds)
        document = orjson.dumps({**self._told("standby", target.epoch), "fence": asdict(target)})
        whom = {"MUSTER_FENCE": target.member, "MUSTER_FENCE_ADDRESS": target.address}
        environment = {**self._environment("standby", target.epoch), **whom}
        # Spared when this member's own processes are ended: it is none of them, and ends when it is not wanted any more.
        return await hook.run(environment, document, until=float("inf"), spared=self._guarding.spared)

    # Hooks

    async def _clean(self) -> None:
        """Make a standby of the member. Raises HookError; it is tried again before the next check."""
        try:
            await self._hooked("demote", "standby", self._epoch, spared=self._guarding.spared)
        except HookError as error:
            self._unclean = error.detail
            raise
        self._unclean = None

    async def _hooked(
        self,
        name: Literal["promote", "demote", "check", "position"],
        role: Role,
        epoch: int,
        *,
        until: float = float("inf"),
        quiet: bool = False,
        spared: set[int] | None = None,
    ) -> str:
        """Run the hook, unless it has been run for this epoch. Returns what it has put out."""
        command: str = getattr(self._settings, name)
        if not command or (not quiet and self._done.get(name) == epoch):
            return ""
        hook = Hook(name=name, command=command, seconds=self._settings.hook_timeout_seconds, quiet=quiet)
        document = orjson.dumps(self._told(role, epoch))
        try:
            said = await hook.run(self._environment(role, epoch), document, until=until, spared=spared)
        except HookError as error:
            # What is asked every second goes on to fail in the same words: they are told once.
            if not quiet or self._failures.get(name) != error.detail:
                LOG.error("%s", error.detail)
            self._failures[name] = error.detail
            raise
        self._failures.pop(name, None)
        if not quiet:
            self._done[name] = epoch
        return said

    def _told(self, role: Role, epoch: int) -> dict[str, object]:
        """What a hook reads: what the member is to be, what it was, and the group as it was seen last."""
        row = self._membership.row
        group = {} if row is None else asdict(row)
        about = {"member": self._settings.member, "role": role, "epoch": epoch, "was": self._was}
        return {**group, **about, "group": self._settings.group, "incarnation": self._membership.incarnation}

    def _environment(self, role: Role, epoch: int) -> dict[str, str]:
        own = {
            "MUSTER_GROUP": self._settings.group,
            "MUSTER_MEMBER": self._settings.member,
            "MUSTER_ROLE": role,
            "MUSTER_EPOCH": str(epoch),
            "MUSTER_URL": ",".join(self._settings.urls),
            MARK: self._guarding.mark,
        }
        if self._settings.cluster is not None:
            own["MUSTER_CLUSTER"] = self._settings.cluster
        return {**os.environ, **own}

    # The command

    @property
    def _always(self) -> bool:
        return self._settings.runs == "always"

    @property
    def _runs(self) -> bool:
        return self._command is not None and not self._command.ended.done()

    @property
    def _epoch(self) -> int:
        row = self._membership.row
        return self._membership.epoch if self._membership.role == "primary" or row is None else row.epoch

    def _start(self, role: Role) -> None:
        if self._runs or not self._settings.command:
            return
        epoch, until = self._epoch, self._guarding.until if role == "primary" else float("inf")
        # The clock is looked at once more in the child itself: between here and there this process may be stopped for a while.
        self._is_to_end, self._starts = False, self._starts + 1
        try:
            child = StartedProcess(self._settings.command, self._environment(role, epoch), until=until)
        except OSError as error:
            self._last_end = f"it could not be started: {error}"
            raise MusterError(f"{self._settings.command[0]}: {self._last_end}") from error
        LOG.info("started %s as pid %s, epoch %s", self._settings.command[0], child.pid, epoch)
        self._command = child
        watching = asyncio.create_task(self._watch(child), name=f"pid {child.pid}")
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)

    def _restart(self) -> None:
        """Start the command again that has ended as a standby; raises why it does not run, until it is time."""
        if self._runs:
            return
        if elapsed_seconds() < self._starts_at:
            raise MusterError(f"the command does not run: {self._last_end}")
        self._start("standby")

    async def _watch(self, child: StartedProcess) -> None:
        began = elapsed_seconds()
        code = await child.ended
        self._last_end = told_of(code)
        LOG.info("pid %s has ended: %s", child.pid, self._last_end)
        # What has run for long begins anew with a short pause; what ends at once, again and again, must not take the machine.
        if elapsed_seconds() - began >= steady_seconds:
            self._starts = 1
        self._starts_at = elapsed_seconds() + pause_seconds(
            self._starts - 1, restart_first_seconds, restart_longest_seconds
        )
        if self._is_to_end or child is not self._command:
            return
        # What it has started may act as the primary still: the end is only seen when there is nothing left.
        await self._guarding.kill()
        self._membership.ended_by_itself(f"its command has ended: {self._last_end}")

    def _ask(self) -> None:
        if self._runs and self._command is not None:
            LOG.warning("half of the lease is over: SIGTERM to pid %s", self._command.pid)
            self._command.signal_group(signal.SIGTERM)

    async def _end_command(self) -> None:
        """SIGTERM, and SIGKILL to what is left; returns when nothing is."""
        child, self._is_to_end = self._command, True
        if (
            child is not None
            and not child.ended.done()
            and not await child.stopped(self._settings.stop_timeout_seconds)
        ):
            LOG.warning("pid %s did not stop within %g s and is killed", child.pid, self._settings.stop_timeout_seconds)
        await self._guarding.kill()


async def run_member(settings: RunSettings) -> None:
    """Run the member until SIGTERM or SIGINT. Raises what has ended the membership."""
    runner, loop = Runner(settings), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runner.stop)
    await runner.run()
