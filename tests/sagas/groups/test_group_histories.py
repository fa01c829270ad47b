"""Any history of a failover group: runners, operators, checks, time, verbs and other writers, in any order (Hypothesis)."""

from functools import reduce
from typing import Any

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain.catalogue import Answer
from domain.groups import commands as c
from domain.groups import group
from domain.groups import member as m
from domain.message import Recorded
from domain.saga import AbortSaga, ForceComplete, PauseSaga, ResumeSaga, RetryStep, SkipStep
from muster.wire.command import Command
from projections.groups import GROUPS, shown
from tests.domain.groups.strategies import members
from tests.domain.groups.strategies import settings as arrangements
from tests.sagas.groups.played import STREAM, Played
from workers.views.stored_state import dumped, loaded

LATE: Any = st.sampled_from([0, 0, 0, 0, -1, 1, 7])
"""By how much an incarnation or an epoch is not the current one: mostly by nothing."""

WORDS: Any = st.sampled_from(["renew", "ready", "failed", "left", "ended", "serving", "position"])
VERBS: tuple[type, ...] = (AbortSaga, PauseSaga, ResumeSaga, RetryStep, ForceComplete, SkipStep)


class Timed(Played):
    """It also knows since when the primary's lease counts: no lease may end before its time."""

    lease_since = 0.0

    def ask(self, command: Command, stream: str = STREAM) -> Answer:
        answer = super().ask(command, stream)
        if isinstance(command, m.RenewMember) and command.epoch is not None and answer.error is None:
            self.lease_since = self.monotonic
        return answer

    def _take(self, taken: Any) -> None:
        before = self.group
        super()._take(taken)
        for recorded, _ in taken.folded:
            match recorded.event:
                case m.MemberPromoted() | m.GroupReclaimed():
                    self.lease_since = self.monotonic
                case m.PrimaryEnded(how="lease"):
                    passed = self.monotonic - self.lease_since
                    assert passed > before.lease_seconds - 0.01, (
                        f"a lease of {before.lease_seconds} s ended after {passed} s"
                    )


class AnyHistory(RuleBasedStateMachine):
    """After each step: what the log holds gives the decider's state, a snapshot keeps it, and the read model shows it."""

    @initialize(
        fencing=st.sampled_from(["lease", "lease", "unfenced"]),
        max_lag=st.sampled_from([None, 10]),
        synchronous=st.booleans(),
        preempt=st.booleans(),
    )
    def begin(self, **how: Any) -> None:
        self.world = Timed(**how)
        self.row: Any = None
        self.seen = 0
        self.primaries: dict[int, str] = {}

    # Operators

    @rule(command=arrangements)
    def arrange(self, command: Command) -> None:
        self.world.ask(command)
        self.world.drive()

    @rule(to=st.none() | members, accept=st.booleans())
    def fail_over(self, to: str | None, accept: bool) -> None:
        self.world.ask(c.Failover(to=to, accept_data_loss=accept))
        self.world.drive()

    @rule(verb=st.sampled_from(VERBS))
    def steer(self, verb: type) -> None:
        for saga in self.world.sagas:
            self.world.ask(verb(step=saga.step) if verb is SkipStep else verb(), saga.id)
        self.world.drive()

    # Runners

    @rule(member=members, process=st.sampled_from(["p1", "p2"]))
    def join(self, member: str, process: str) -> None:
        answer = self.world.ask(m.JoinGroup(member=member, process=process))
        if answer.incarnation is not None:
            self.world.incarnations[member] = answer.incarnation
            self.world.alive.add(member)
        self.world.drive()

    @rule(member=members)
    def goes_silent(self, member: str) -> None:
        self.world.alive.discard(member)

    @rule(member=members, evidence=st.sampled_from([None, "503"]))
    def checked(self, member: str, evidence: str | None) -> None:
        told = m.SuspectMember(member=member, evidence=evidence)
        taken = self.world.partition.step(self.world.now, observations=[(STREAM, told)])
        self.world._take(taken)
        self.world.drive()

    @rule(member=members, by=LATE, epoch_by=LATE, word=WORDS)
    def says(self, member: str, by: int, epoch_by: int, word: str) -> None:
        own = self.world.group.ownership
        epoch = max(0, own.epoch + epoch_by)
        known = self.world.group.members.get(member)
        said: dict[str, Any] = {
            "member": member,
            "incarnation": max(0, (0 if known is None else known.incarnation) + by),
        }
        commands: dict[str, Command] = {
            "renew": m.RenewMember(**said, epoch=epoch),
            "ready": m.ReportMember(**said, outcome="ready"),
            "failed": m.ReportMember(**said, outcome="failed", why="no connection"),
            "left": m.ReportMember(**said, outcome="left"),
            "ended": m.ReportEnded(**said, epoch=epoch, how="seen"),
            "serving": m.ReportServing(**said, epoch=epoch),
            "position": m.ReportPosition(**said, epoch=epoch, position=100 + by),
        }
        before, command = self.world.group, commands[word]
        self.world.ask(command)
        stale = known is None or said["incarnation"] != known.incarnation
        if stale or (epoch != own.epoch and hasattr(command, "epoch")):
            assert self.world.group == before, f"{command} is late, and changed something"
        self.world.drive()

    @rule(by=st.sampled_from([-1, -2, 1]), word=st.sampled_from(["renew", "ended", "serving", "position"]))
    def says_something_of_another_epoch(self, by: int, word: str) -> None:
        holder = self.world.group.ownership.holder
        if holder is not None:
            self.says(holder, 0, by, word)

    @rule(names=st.sets(members, min_size=1), by=LATE)
    def change_the_set(self, names: set[str], by: int) -> None:
        world, own = self.world, self.world.group.ownership
        if own.holder is None:
            return
        said = {"member": own.holder, "incarnation": world.group.members[own.holder].incarnation, "epoch": own.epoch}
        before, version = world.group, max(0, own.version + by)
        world.ask(m.ChangeInSync(**said, version=version, in_sync=tuple(sorted({*names, own.holder})), cause="lost"))
        # An earlier version is refused, unless it is the repeat of the last change, which is done already.
        assert version == own.version or world.group == before, "a late change of the set was taken"

    # Time and writers

    @rule(seconds=st.sampled_from([0.1, 0.8, 2.3]))
    def pass_time(self, seconds: float) -> None:
        self.world.passes_time(seconds)

    @rule()
    def another_writer(self) -> None:
        self.world.claims("w2", self.world.recovered())

    # What holds

    @invariant()
    def every_epoch_has_one_primary_behind_the_end_of_the_one_before(self) -> None:
        history = self.world.history
        for recorded in history[self.seen :]:
            event = recorded.event
            if isinstance(event, m.MemberPromoted | m.GroupReclaimed):
                assert event.epoch not in self.primaries, f"epoch {event.epoch} has two"
                self.primaries[event.epoch] = event.member
            if isinstance(event, m.MemberPromoted) and event.was is not None and event.ended is None:
                assert self._unfenced(recorded), "promoted before the epoch had ended"
            self._follow(recorded)
        self.seen = len(history)

    def _unfenced(self, recorded: Recorded) -> bool:
        return (
            self.row is not None and self.row.state.settings.fencing == "unfenced" and self.row.state.ownership.fenced
        )

    def _follow(self, recorded: Recorded) -> None:
        if GROUPS.touched(recorded) is not None:
            self.row = GROUPS.fold(self.row, recorded)

    @invariant()
    def the_log_the_snapshot_and_the_read_model_agree(self) -> None:
        state = self.world.group
        told = [each for each in self.world.history if each.stream == STREAM]
        assert reduce(group.evolve, told, group.INITIAL) == state
        assert loaded(STREAM, orjson.loads(orjson.dumps(dumped(STREAM, state)))) == state
        if state.settings is None:
            assert self.row is None
        else:
            assert self.row.shown == shown("db", state)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
