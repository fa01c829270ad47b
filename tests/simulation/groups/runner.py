"""A simulated runner of one member: it joins, renews, starts and stops what it runs as the group's row says, and may die.

It leads only behind a renewal that was answered, and believes so until nine tenths of the lease have passed since before that
renewal was sent. What it runs dies with it. A frozen one does nothing, and its belief runs out all the same.
"""

from typing import TYPE_CHECKING, Any, Final

from domain.catalogue import Answer
from domain.groups import member as m
from muster.wire.command import Command
from muster.wire.groups.answers import GroupState

if TYPE_CHECKING:
    from tests.simulation.groups.world import Groups

renew_seconds: Final = 0.4
lease_share: Final = 0.9


class Runner:
    """The runner of the member `name`. `epoch` is the one that it leads, `copy` how far its copy reaches."""

    def __init__(self, name: str, world: "Groups") -> None:
        self.name, self.world = name, world
        self.starts = 0
        self.copy = 0
        self.up_at: float | None = 0.0
        self.frozen_until = 0.0
        self.cut_off = False
        self.ill = False
        self._forget()

    def _forget(self) -> None:
        """A new process knows nothing."""
        self.incarnation: int | None = None
        self.epoch: int | None = None
        self.believes_until = 0.0
        self.over = -1
        self.wish: tuple[type[m.RunnerCommand], dict[str, Any]] | None = None
        self.joining_at = self.renewed_at = -1.0
        self.ready: str | None = None
        self.row: GroupState | None = None

    @property
    def process(self) -> str:
        return f"{self.name}-{self.starts}"

    @property
    def up(self) -> bool:
        return self.up_at is None

    @property
    def leads(self) -> bool:
        """Whether what it runs acts as the primary at this instant, by its own belief."""
        return self.up and self.epoch is not None and self.world.now < self.believes_until

    # What happens to it

    def crash(self, seconds: float) -> None:
        """SIGKILL of the host: what it runs dies too; another process starts so much later."""
        self.up_at = self.world.now + seconds
        self._forget()

    def freeze(self, seconds: float) -> None:
        """The host stands still; clocks of leases do not."""
        self.frozen_until = self.world.now + seconds

    def child_ends(self) -> None:
        """What it runs ends by itself, and it has seen that."""
        if self.up and self.epoch is not None:
            self._stop("seen")

    # What it does

    def turn(self) -> None:
        """A moment passes."""
        if self.up_at is not None and self.world.now >= self.up_at:
            self.up_at = None
            self.starts += 1
        if not self.up or self.world.now < self.frozen_until:
            return
        if self.world.sees(self):
            self.row = self.world.row()
        if self.incarnation is None:
            self._join()
        elif self.row is not None:
            self._obey(self.row)
            self._report(self.row)

    def _join(self) -> None:
        if self.world.now - self.joining_at > 1.0:
            self.joining_at = self.world.now
            self._post(m.JoinGroup(member=self.name, process=self.process), self._joined)

    def _joined(self, answer: Answer) -> None:
        if answer.error is None:
            self.incarnation = answer.incarnation

    def _obey(self, row: GroupState) -> None:
        wanted = row.primary == self.name and not row.fenced and row.epoch > self.over
        if self.epoch is not None:
            self.copy += 1
            # A row that is older than the epoch says nothing about it.
            other = row.epoch > self.epoch or (row.epoch == self.epoch and not wanted)
            if self.world.now >= self.believes_until or other:
                self._stop("said")
        if self.world.now - self.renewed_at >= renew_seconds:
            self.renewed_at = self.world.now
            self._renew(row.epoch if wanted else None, row.lease_seconds)

    def _renew(self, epoch: int | None, lease_seconds: float) -> None:
        sent = self.world.now

        def renewed(answer: Answer) -> None:
            if answer.error is not None:
                self._refused(answer.error["name"])
            elif epoch is not None and epoch > self.over:
                begins = self.epoch != epoch
                self.epoch = epoch
                self.believes_until = max(
                    self.believes_until if not begins else 0.0, sent + lease_share * lease_seconds
                )

        self._say(m.RenewMember, renewed, epoch=epoch)

    def _refused(self, name: str) -> None:
        if name == "StaleIncarnation":
            # Another process runs this member, or it has left: this one ends, and a new one is started.
            self.crash(0.5)
        elif name == "StaleEpoch" and self.epoch is not None:
            self._stop("said")

    def _stop(self, how: str) -> None:
        assert self.epoch is not None
        self.wish = m.ReportEnded, {"epoch": self.epoch, "how": how}
        self.over, self.epoch, self.ready = max(self.over, self.epoch), None, None

    def _report(self, row: GroupState) -> None:
        if self.wish is not None:
            command, said = self.wish
            # Told again and again until it is answered: a lost word would leave the lease to run out.
            self._say(command, self._granted, **said)
        mine = next((member for member in row.members if member.member == self.name), None)
        state = "failed" if self.ill else "ready"
        if (
            mine is not None
            and (mine.status in ("recovering", "failed") or self.ill)
            and self.world.chance.random() < 0.3
        ):
            self._say(m.ReportMember, None, outcome=state)
        if self.epoch == row.epoch and not row.serving and self.world.chance.random() < 0.5:
            self._say(m.ReportServing, None, epoch=self.epoch)
        asked = row.max_lag is not None and row.ended is not None and row.primary is None
        if asked or (self.leads and self.world.chance.random() < 0.05):
            self._say(m.ReportPosition, None, epoch=row.epoch, position=self.copy)

    def _granted(self, answer: Answer) -> None:
        self.wish = None
        if answer.error is not None:
            self._refused(answer.error["name"])

    def _say(self, command: type[m.RunnerCommand], told: Any, **more: Any) -> None:
        assert self.incarnation is not None
        self._post(command(member=self.name, incarnation=self.incarnation, **more), told)

    def _post(self, command: Command, told: Any) -> None:
        process = self.process

        def answered(answer: Answer) -> None:
            # An answer reaches the process that asked, while its host moves; also one that was on its way when it was cut off.
            hears = self.up and self.process == process and self.world.now >= self.frozen_until
            if told is not None and hears:
                told(answer)

        self.world.post(self, command, answered)
