"""Books about failover groups: one primary per epoch behind the proven end of the one before, and a set that only it changes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from domain import saga as s
from domain.groups import member as m
from domain.groups import state as g
from domain.message import Event, Recorded
from muster.wire.stream import root_of
from sagas.invariants.sagas import KnownSaga


@dataclass(slots=True)
class KnownGroup:
    """Who leads a group, and what the next one has to be measured by. `held`: the epoch has not ended; `positions`: how far each
    member's copy reaches, and at which epoch it said so.
    """

    settings: g.GroupRules = field(default_factory=g.GroupRules)
    members: set[str] = field(default_factory=set)
    positions: dict[str, tuple[int, int]] = field(default_factory=dict)
    epoch: int = 0
    owner: str | None = None
    held: bool = False
    how: str | None = None
    fenced: bool = False
    in_sync: tuple[str, ...] = ()
    version: int = 0
    failover: str | None = None
    promoted_by: str | None = None


class GroupBooks:
    """`sagas` are the sagas under way by their streams, as `SagaBooks` keeps them."""

    def __init__(self, sagas: Mapping[str, KnownSaga]) -> None:
        self._sagas = sagas
        self._groups: dict[str, KnownGroup] = {}

    def take(self, recorded: Recorded) -> Iterator[str]:
        """What the event of a group's stream breaks."""
        event, group = recorded.event, self._group(recorded.stream)
        match event:
            case g.GroupCreated():
                # What was deleted goes on: a token of before must never be as high as one that is given now.
                if (event.epoch, event.set_version) != (group.epoch, group.version):
                    yield f"I18 it was made at epoch {event.epoch}, but had come to {group.epoch}"
                group.settings = event.settings
            case g.GroupSettingsChanged():
                group.settings = event.settings
            case g.GroupDeleted():
                if group.held:
                    yield f"I18 it was deleted while {group.owner} held epoch {group.epoch}"
                self._groups[recorded.stream] = KnownGroup(epoch=group.epoch, version=group.version)
            case m.MemberAdded():
                group.members.add(event.member)
            case m.MemberRemoved():
                yield from _removed(group, event.member)
            case m.PositionReported():
                group.positions[event.member] = (event.position, event.epoch)
            case m.InSyncChanged():
                yield from _set_changed(group, event)
            case m.PrimaryEnded() | m.GroupServing():
                if not group.held or (event.member, event.epoch) != (group.owner, group.epoch):
                    yield f"I18 {event.type} of {event.member} at {event.epoch}; {group.owner} has epoch {group.epoch}"
                if isinstance(event, m.PrimaryEnded) and event.how == "hook" and not _may_be_fenced(group):
                    yield f"I18 a hook ended epoch {group.epoch} of {group.owner}, which it may not"
                if isinstance(event, m.PrimaryEnded):
                    group.held, group.how = False, event.how
            case g.FailoverStarted() | g.FailoverEnded() | g.GroupFenced() | m.MemberPromoted() | m.GroupReclaimed():
                yield from self._failing_over(group, event)

    def failover_went_on(self, event: Event, stream: str) -> Iterator[str]:
        """What an event of a failover's own stream breaks about its group."""
        group = self._group(root_of(stream))
        match event:
            case s.StepSucceeded(step="promote") | s.StepSkipped(step="promote"):
                if group.promoted_by != stream:
                    yield "I16 the saga says that it promoted, but no member was promoted with it"
            case s.SagaCompleted() | s.SagaCompensated():
                if group.failover == stream:
                    yield "I9 it has ended, but keeps its group"

    def _failing_over(self, group: KnownGroup, event: Event) -> Iterator[str]:
        match event:
            case g.FailoverStarted():
                if group.failover is not None:
                    yield f"I9 {event.failover} began while {group.failover} was under way"
                group.failover = event.failover
                return
            case g.FailoverEnded() | g.GroupFenced() | m.MemberPromoted() | m.GroupReclaimed():
                if group.failover != event.failover:
                    yield f"I9 {group.failover} is under way, not {event.failover}"
        match event:
            case g.FailoverEnded():
                if group.held and group.fenced:
                    yield f"I6 {group.owner} is left fenced"
                group.failover = None
            case g.GroupFenced():
                if not group.held or group.fenced or event.epoch != group.epoch:
                    yield f"I18 a fence at epoch {event.epoch} of a group that is at {group.epoch}"
                group.fenced = True
            case m.MemberPromoted():
                yield from _promoted(group, event)
                yield from self._compared(group, event)
                group.promoted_by = event.failover
                _begins(group, event.epoch, event.member)
                group.in_sync = event.in_sync
            case m.GroupReclaimed():
                if not (group.held and group.fenced) or event.member != group.owner:
                    yield f"I18 epoch {group.epoch} of {group.owner} was given back to {event.member}"
                if event.epoch != group.epoch + 1:
                    yield f"I18 the epoch went from {group.epoch} to {event.epoch}"
                _begins(group, event.epoch, event.member)

    def _compared(self, group: KnownGroup, event: m.MemberPromoted) -> Iterator[str]:
        """What the choice breaks: of whose copies it had to be, and what is told about the others."""
        told = [one.member for one in event.passed_over]
        if sorted([*told, event.member]) != sorted(group.members):
            yield f"I16 {event.member} was promoted over {told}, but the members are {sorted(group.members)}"
        if event.lossy:
            saga = self._sagas.get(event.failover)
            if saga is None or not saga.data.get("accept_data_loss"):
                yield f"I15 {event.member} may lack acknowledged writes, which nobody has accepted"
            return
        if group.settings.synchronous and group.in_sync and event.member not in group.in_sync:
            yield f"I15 {event.member} was promoted, and is not in the set {group.in_sync}"
        if group.settings.max_lag is not None and group.owner is not None and group.positions:
            reaches, epoch = group.positions.get(event.member, (0, -1))
            longest = max(position for position, _ in group.positions.values())
            if epoch != group.epoch or longest - reaches > group.settings.max_lag:
                yield f"I16 {event.member} was promoted, and its copy is not known to reach near {longest}"

    def _group(self, stream: str) -> KnownGroup:
        return self._groups.setdefault(stream, KnownGroup())


def _may_be_fenced(group: KnownGroup) -> bool:
    return group.fenced and group.settings.fencing == "hook"


def _removed(group: KnownGroup, member: str) -> Iterator[str]:
    if group.held and member == group.owner:
        yield f"I18 {member} was removed while it held epoch {group.epoch}"
    group.members.discard(member)
    group.positions.pop(member, None)


def _set_changed(group: KnownGroup, event: m.InSyncChanged) -> Iterator[str]:
    if not group.held or group.fenced or (event.member, event.epoch) != (group.owner, group.epoch):
        yield f"I15 {event.member} changed the set at epoch {event.epoch}; {group.owner} has epoch {group.epoch}"
    if event.version != group.version + 1:
        yield f"I15 the set went from version {group.version} to {event.version}"
    if event.member not in event.in_sync:
        yield f"I15 {event.member} took itself out of its set"
    group.in_sync, group.version = event.in_sync, event.version


def _promoted(group: KnownGroup, event: m.MemberPromoted) -> Iterator[str]:
    if event.epoch != group.epoch + 1:
        yield f"I18 the epoch went from {group.epoch} to {event.epoch}"
    if (event.was, event.ended) != (group.owner, group.how):
        yield f"I18 epoch {event.epoch} follows {event.was} ({event.ended}), but {group.owner} had it ({group.how})"
    # An operator has set that two primaries are less harm than none; the fence is all that there is then.
    waived = group.fenced and group.settings.fencing == "unfenced"
    if group.held and not waived:
        yield f"I18 epoch {event.epoch} of {event.member} began before epoch {group.epoch} of {group.owner} had ended"


def _begins(group: KnownGroup, epoch: int, owner: str) -> None:
    group.epoch, group.owner, group.held, group.how, group.fenced = epoch, owner, True, None, False
    # Each epoch counts as a change of the set, so that a late change of the one before never matches.
    group.version += 1
