"""A failover group of three small processes: killed, hung, switched on request, and passed over when ill."""

import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

from examples.demo.cluster import eventually
from examples.demo.stage import Stage, milliseconds, some
from muster.wire.groups.answers import GroupState

GROUP: Final = "ledger"
MEMBERS: Final = {"ledger-1": 30, "ledger-2": 20, "ledger-3": 10}
LEASE_SECONDS: Final = 2.0


class LedgerGroup:
    """The group `ledger`: each member's runner starts `examples.ledger` while it is the primary."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._ledger = stage.cluster.folder / "ledger.txt"
        self._ill = stage.cluster.folder / "ill"

    async def play(self) -> None:
        """The chapter."""
        self._stage.screen.step("Three copies of a ledger form a failover group: one may write, and only one")
        await self._start()
        await self._kill()
        await self._hang()
        await self._switch()
        await self._fall_ill()
        self._claim_ledger()
        await self._stop()

    async def _start(self) -> None:
        await self._stage.client.groups.create(GROUP, MEMBERS, lease_seconds=LEASE_SECONDS)
        for member in MEMBERS:
            # A member is fit as long as no file says that it is ill; see `_fall_ill`.
            fit = f"test ! -e {self._ill}-{member}"
            run = ("group", "run", GROUP, "--as", member, "--url", self._stage.cluster.url, "--check", fit)
            self._stage.cluster.start_tool(member, "muster", *run, "--", *ledger_command(self._ledger))
        row = await self._serving(after=0)
        self._stage.claims.claim("the member of the highest priority leads", row.primary == "ledger-1", told(row))

    async def _kill(self) -> None:
        """SIGKILL of what the primary runs: its runner sees it end, and says so."""
        before = await self._serving(after=0)
        writer = await self._writer(before.epoch)
        began = time.monotonic()
        os.kill(writer, signal.SIGKILL)
        row = await self._serving(after=before.epoch)
        self._stage.claims.figure("group: primary killed → another one serves", milliseconds(time.monotonic() - began))
        self._stage.claims.claim(
            "a killed primary is followed at once, on the proof that its end was seen",
            row.primary == "ledger-2" and await proof_of_end(self._stage, GROUP, before.epoch) == "seen",
            told(row),
        )

    async def _hang(self) -> None:
        """SIGSTOP of the primary's runner: it can say nothing, and its warden ends what it runs before the lease is over."""
        before = await self._serving(after=0)
        assert before.primary is not None, "somebody leads"
        pid = self._stage.cluster.pid(before.primary)
        assert pid is not None, "its runner runs"
        began = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            row = await self._serving(after=before.epoch)
            took = time.monotonic() - began
        finally:
            os.kill(pid, signal.SIGCONT)
        self._stage.claims.figure("group: primary's runner stopped → another one serves", milliseconds(took))
        self._stage.claims.claim(
            f"a primary whose runner hangs is followed when its lease of {LEASE_SECONDS:g} s is over",
            row.primary != before.primary and await proof_of_end(self._stage, GROUP, before.epoch) == "lease",
            told(row),
        )

    async def _switch(self) -> None:
        """An operator asks for another primary."""
        before = await self._serving(after=0)
        to = next(member for member in ("ledger-1", "ledger-2") if member != before.primary)
        await self._active(to)
        tool = await self._stage.cluster.tool(
            *("group", "failover", GROUP, "--to", to, "--wait", "--reason", "a new kernel"),
            *("--url", self._stage.cluster.url),
        )
        row = await self._serving(after=before.epoch)
        self._stage.claims.claim(
            "an operator's switch waits until the primary has stopped",
            tool.exit_code == 0
            and row.primary == to
            and await proof_of_end(self._stage, GROUP, before.epoch) == "said",
            told(row) + tool.error.strip(),
        )

    async def _fall_ill(self) -> None:
        """Both standbys' checks fail: nobody is promoted, and each of them is named with its reason."""
        before = await self._serving(after=0)
        standbys = [member for member in MEMBERS if member != before.primary]
        for member in standbys:
            self._sicken(member)

        async def ill() -> GroupState | None:
            row = await self._stage.client.groups.one(GROUP)
            failed = [member for member in row.members if member.member in standbys and member.status == "failed"]
            return row if len(failed) == len(standbys) else None

        row = await eventually(ill, "both standbys are ill", 20.0)
        tool = await self._stage.cluster.tool("group", "failover", GROUP, "--url", self._stage.cluster.url)
        named = all(member in tool.error for member in standbys)
        self._stage.claims.claim(
            "members that are ill are no choice, each with its reason, and the primary goes on",
            tool.exit_code == 1
            and tool.error.startswith("NoHealthyStandby")
            and named
            and row.primary == before.primary,
            tool.error.strip()[:160],
        )
        history = await self._stage.cluster.tool("group", "history", GROUP, "--url", self._stage.cluster.url)
        self._stage.claims.claim(
            "the history tells each failover: on what proof, and who was passed over",
            all(word in history.out for word in ("its end was seen", "its lease is over", "it said so", "passed over")),
            f"{len(history.out.splitlines())} lines",
        )

    def _claim_ledger(self) -> None:
        lines = self._lines()
        epochs = [epoch for epoch, _, _ in lines]
        wrong = [f"{later} behind {earlier}" for earlier, later in pairwise(epochs) if later < earlier]
        self._stage.claims.claim(
            "in the ledger no line of an older epoch stands behind a newer one",
            not wrong and len(set(epochs)) > 3,
            f"{len(lines)} lines of {len(set(epochs))} epochs" + some(wrong),
        )

    async def _stop(self) -> None:
        for member in MEMBERS:
            await self._stage.cluster.stop(member)

    async def _serving(self, *, after: int) -> GroupState:
        """The group, once a primary serves with an epoch after this one."""

        async def serves() -> GroupState | None:
            row = await self._stage.client.groups.one(GROUP)
            return row if row.primary is not None and row.serving and row.epoch > after else None

        return await eventually(serves, f"the group is led with an epoch after {after}", 20.0)

    def _sicken(self, member: str) -> None:
        Path(f"{self._ill}-{member}").touch()

    async def _active(self, member: str) -> None:
        async def active() -> bool:
            row = await self._stage.client.groups.one(GROUP)
            return any(found.member == member and found.status == "active" for found in row.members)

        await eventually(active, f"{member} can lead", 20.0)

    def _lines(self) -> list[tuple[int, str, int]]:
        """The ledger: epoch, member and process of each whole line."""
        text = self._ledger.read_text(encoding="utf-8") if self._ledger.exists() else ""
        parts = (line.split() for line in text.splitlines())
        return [(int(epoch), member, int(pid)) for epoch, member, pid in parts]

    async def _writer(self, epoch: int) -> int:
        """The process that writes with this epoch, once it does."""

        async def writes() -> int | None:
            return next((pid for found, _, pid in self._lines() if found == epoch), None)

        return await eventually(writes, f"somebody writes with epoch {epoch}", 20.0)


def ledger_command(ledger: Path) -> list[str]:
    """What a member runs while it is the primary."""
    return [sys.executable, "-m", "examples.ledger", str(ledger)]


async def proof_of_end(stage: Stage, group: str, epoch: int) -> str:
    """How the group's epoch is known to have ended."""
    page = await stage.client.newest_events(stream=f"group/{group}", type="group.primary_ended")
    return next((str(event.data["how"]) for event in page.items if event.data["epoch"] == epoch), "never")


def told(row: GroupState) -> str:
    """The group in a few words."""
    return f"{row.primary} leads with epoch {row.epoch}"
