"""A simulated runner of one member: it joins, renews, starts and stops what it runs as the group's row says, and may die.

It leads only behind a renewal that was answered, and believes so until nine tenths of the lease have passed since before that
renewal was sent. What it runs dies with it. A frozen one does nothing, and its belief runs out all the same.

In a synchronous group it keeps the set: who has caught up is taken in, who is behind is left out, each by a change that is
recorded before anything rests on it alone. One that `fences` powers off the host of a primary that its group wants fenced.
"""

from typing import TYPE_CHECKING, Any, Final

from domain.catalogue import Answer
from domain.groups import member as m
from muster.wire.command import Command
from muster.wire.groups.answers import GroupState
from tests.simulation.groups.copies import Entry

if TYPE_CHECKING:
    from tests.simulation.groups.world import Groups

renew_seconds: Final = 0.4
lease_share: Final = 0.9


class Runner:
    """The runner of the member `name`. `epoch` is the one that it leads, `copy` how far its copy reaches."""

    def __init__(self, name: str, world: "Groups") -> None:
        self.name, self.world = name, world
        self.starts = 0
        self.log: list[Entry] = []
        self.fences = False
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
        self.in_sync: tuple[str, ...] = ()
        self.set_version = -1
        # So far somebody may count on what it holds: all that it began its epoch with, and what it has acknowledged since.
        self.committed = 0
        self.wanted_set: tuple[str, ...] | None = None
        self.fencing: tuple[int, float] | None = None
        self.fence_tries: dict[int, int] = {}

    @property
    def copy(self) -> int:
        """How far its copy reaches."""
        return len(self.log)

    @property
    def vouching(self) -> set[str]:
        """Who has to hold an entry before it is acknowledged."""
        return {self.name, *self.in_sync, *(self.wanted_set or ())}

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
            # Its host may have gone down over what it has just said.
            if self.row is not None:
                self._fence(self.row)

    def _join(self) -> None:
        if self.world.now - self.joining_at > 1.0:
            self.joining_at = self.world.now
            self._post(m.JoinGroup(member=self.name, process=self.process, fences=self.fences), self._joined)

    def _joined(self, answer: Answer) -> None:
        if answer.error is None:
            self.incarnation = answer.incarnation

    def _obey(self, row: GroupState) -> None:
        wanted = row.primary == self.name and not row.fenced and row.epoch > self.over
        if self.epoch is not None:
            self.log.append((self.epoch, len(self.log)))
            self._keep_set(row)
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
                if begins:
                    # Of the epoch before nothing holds any more: the set is that of the row, or its own alone.
                    self.in_sync, self.set_version, self.wanted_set = (), -1, None
                    self.committed = len(self.log)
                self.epoch = epoch
                self.believes_until = max(
                    self.believes_until if not begins else 0.0, sent + lease_share * lease_seconds
                )

        self._say(m.RenewMember, renewed, epoch=epoch)

    def _keep_set(self, row: GroupState) -> None:
        """Have the set that vouches hold those who have caught up, and no others."""
        if not row.synchronous:
            return
        if row.epoch == self.epoch and row.in_sync_version > self.set_version:
            self.in_sync, self.set_version, self.wanted_set = row.in_sync, row.in_sync_version, None
        if self.set_version < 0 or self.world.chance.random() > 0.3:
            return
        if self.wanted_set is None:
            wanted = tuple(sorted({self.name, *self.world.caught_up(self)}))
            self.wanted_set = wanted if wanted != self.in_sync else None
        if self.wanted_set is not None:
            self._ask_for_set(self.wanted_set, self.set_version)

    def _ask_for_set(self, wanted: tuple[str, ...], version: int) -> None:
        def recorded(answer: Answer) -> None:
            if answer.error is not None:
                self._refused(answer.error["name"])
            elif (version, wanted) == (self.set_version, self.wanted_set):
                self.in_sync, self.set_version, self.wanted_set = wanted, version + 1, None

        about = {"epoch": self.epoch, "version": version, "in_sync": wanted, "cause": "caught_up"}
        self._say(m.ChangeInSync, recorded, **about)

    def _fence(self, row: GroupState) -> None:
        """See to it that a primary that is not heard does nothing any more; that takes a while, and may fail."""
        if row.fencer != self.name or row.primary is None:
            self.fencing = None
        elif self.fencing is None or self.fencing[0] != row.epoch:
            self.fencing = row.epoch, self.world.now + self.world.chance.choice([0.2, 0.5, 1.5])
        elif self.world.now >= self.fencing[1]:
            self.fencing = None
            done = self.world.chance.random() < 0.6
            if done:
                self.world.powers_off(row.primary)
            tries = self.fence_tries[row.epoch] = self.fence_tries.get(row.epoch, 0) + 1
            outcome = "done" if done else "failed"
            self._say(m.ReportFenced, None, epoch=row.epoch, attempt=tries, outcome=outcome, detail="by hand")

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
