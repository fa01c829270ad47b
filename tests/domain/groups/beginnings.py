"""Failover groups as tests begin with them: three members, who has joined, who leads, and the time at which it happened."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Final

from domain.groups import group as decider
from domain.groups import member as m
from domain.groups import state as s
from domain.message import Event, Recorded
from tests.given import Given, given
from tests.sample import NOON

MEMBERS: Final = ("db1", "db2", "db3")
INCARNATIONS: Final = {"db1": 4, "db2": 6, "db3": 8}
"""Those of the members in `here`, by its events' places."""
FIRST, SECOND = "group/db/failover/1", "group/db/failover/2"
LEASE_OVER: Final = "its lease of 2 s was not renewed"


def created(**settings: Any) -> tuple[Event, ...]:
    """A group of three members, of which db1 has the highest priority."""
    made = s.GroupCreated(settings=s.GroupRules(**settings), epoch=0, failovers=0, set_version=0)
    return made, *(m.MemberAdded(member=name, priority=3 - number) for number, name in enumerate(MEMBERS))


def joined(member: str, process: str = "p1") -> m.MemberJoined:
    return m.MemberJoined(member=member, process=process, address=f"{member}:5432")


def ready(member: str) -> m.MemberReady:
    return m.MemberReady(member=member)


def silent(member: str) -> m.MemberFailed:
    return m.MemberFailed(member=member, failure="silent", why="it was not heard for 1.5 s")


def suspected(member: str) -> m.MemberSuspected:
    return m.MemberSuspected(member=member, evidence="its instance is unhealthy: 503")


def here(**settings: Any) -> tuple[Event, ...]:
    """All three run and are ready; nobody leads."""
    return *created(**settings), *(told for name in MEMBERS for told in (joined(name), ready(name)))


def started(failover: str = FIRST, epoch: int = 0, was: str | None = None, cause: s.Cause = "first") -> Event:
    return s.FailoverStarted(failover=failover, cause=cause, evidence="why", epoch=epoch, was=was, to=None, lossy=False)


def promoted(member: str, epoch: int, failover: str = FIRST, **more: Any) -> m.MemberPromoted:
    known: dict[str, Any] = {"was": None, "ended": None, "in_sync": (), "passed_over": (), "lossy": False}
    known |= {"incarnation": INCARNATIONS[member], "lease_seconds": 2.0}
    return m.MemberPromoted(member=member, failover=failover, epoch=epoch, **{**known, **more})


def finished(failover: str = FIRST, outcome: s.Outcome = "completed", detail: str = "") -> s.FailoverEnded:
    return s.FailoverEnded(failover=failover, outcome=outcome, detail=detail)


def led(cause: s.Cause = "first", in_sync: tuple[str, ...] = (), **settings: Any) -> tuple[Event, ...]:
    """db1 leads with epoch 1, and serves."""
    first = started(cause=cause), promoted("db1", 1, in_sync=in_sync)
    return *here(**settings), *first, m.GroupServing(member="db1", epoch=1), finished()


def ended(member: str = "db1", epoch: int = 1, how: Any = "seen", detail: str = "exit code 137") -> m.PrimaryEnded:
    return m.PrimaryEnded(member=member, epoch=epoch, how=how, detail=detail)


def position(member: str, reaches: int, epoch: int = 1) -> m.PositionReported:
    return m.PositionReported(member=member, epoch=epoch, position=reaches)


def fenced(failover: str = SECOND, epoch: int = 1) -> s.GroupFenced:
    return s.GroupFenced(failover=failover, epoch=epoch)


def group_of(*events: Event) -> Given:
    """The group after the events, for a sentence."""
    return given(*events, decider=decider)


def at(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def folded(*events: Event | tuple[float, Event]) -> s.FailoverGroup:
    """The group after the events: each happens at noon, or so many seconds after it."""
    placed: Iterable[tuple[float, Event]] = (one if isinstance(one, tuple) else (0.0, one) for one in events)
    return reduce(lambda state, one: evolved(state, one[1], one[0]), placed, decider.INITIAL)


def evolved(state: s.FailoverGroup, event: Any, seconds: float = 0.0) -> s.FailoverGroup:
    """The group after the event, which happens so many seconds after noon."""
    place = state.version
    told = Recorded(0, place, "group/db", place, at(seconds), event, f"{place}:0", f"{place}", None, "ann", None)
    return decider.evolve(state, told)


def saying(command: type[m.RunnerCommand], member: str = "db1", **more: Any) -> Any:
    """What the member's runner says, with the incarnation that it has in `here`."""
    return command(**{"member": member, "incarnation": INCARNATIONS[member], **more})
