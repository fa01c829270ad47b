"""The checker of a log of failovers: it is content with what happens, and names what cannot have happened."""

from dataclasses import replace
from functools import cache

import pytest

from domain.groups import commands as c
from domain.groups import member as m
from domain.groups import state as g
from domain.message import Recorded
from domain.saga import AbortSaga, SagaCompensated, StepSucceeded
from tests.domain.groups.beginnings import FIRST, SECOND, ended, fenced, finished, promoted, started
from tests.sagas.groups.played import Played
from tests.sagas.tampered import breaches, changed, followed_by, owed, tampered, without


@cache
def compared() -> tuple[Recorded, ...]:
    """db1 is asked to step down; db2 follows, because its copy reaches far enough."""
    played = Played(max_lag=10)
    played.says(m.ReportPosition, "db1", epoch=1, position=100)
    played.ask(c.Failover())
    played.drive()
    played.ends("said")
    for name, reaches in (("db2", 95), ("db3", 40)):
        played.says(m.ReportPosition, name, epoch=1, position=reaches)
    played.serves()
    return tuple(played.history)


@cache
def synchronous() -> tuple[Recorded, ...]:
    """db1 has db3 in its set and is killed; db3 follows."""
    played = Played(synchronous=True)
    played.says(m.ChangeInSync, "db1", epoch=1, version=1, in_sync=("db1", "db3"), cause="caught_up")
    played.ends()
    played.serves()
    return tuple(played.history)


@cache
def aborted() -> tuple[Recorded, ...]:
    """db1 goes on with epoch 2."""
    played = Played()
    played.ask(c.Failover())
    played.ask(AbortSaga(), SECOND)
    played.serves()
    return tuple(played.history)


@cache
def fenced_by_a_hook() -> tuple[Recorded, ...]:
    """db1 is not heard any more; db2 can fence it, and does at the second try."""
    played = Played(fencing="hook", lease_seconds=60.0)
    played.joins("db2", "p2", fences=True)
    played.alive.discard("db1")
    played.passes_time(3)
    tries = {"epoch": 1, "detail": "x"}
    played.says(m.ReportFenced, "db2", attempt=1, outcome="failed", **tries)
    played.says(m.ReportFenced, "db2", attempt=2, outcome="done", **tries)
    played.serves()
    return tuple(played.history)


@cache
def unfenced() -> tuple[Recorded, ...]:
    """Nobody waits for db1's end, as an operator has set it."""
    played = Played(fencing="unfenced")
    played.ask(c.Failover())
    played.serves()
    return tuple(played.history)


@cache
def lossy() -> tuple[Recorded, ...]:
    """db1 alone was in its set, and somebody has accepted what that means."""
    played = Played(synchronous=True)
    played.ends()
    played.ask(c.Failover(accept_data_loss=True))
    played.serves()
    return tuple(played.history)


@cache
def again() -> tuple[Recorded, ...]:
    """A group is deleted and made anew."""
    played = Played()
    played.alive.clear()
    played.ask(c.PauseGroup())
    played.passes_time(3)
    played.ask(c.DeleteGroup(force=True))
    played.ask(c.CreateGroup())
    return tuple(played.history)


ALL = [compared, fenced_by_a_hook, synchronous, aborted, unfenced, lossy, again]


@pytest.mark.parametrize("history", ALL, ids=lambda history: history.__name__)
def test_it_is_content_with_what_happens(history):
    assert owed(history()) == []


GROWS = m.InSyncChanged(member="db1", epoch=1, version=2, in_sync=("db1", "db2"), cause="caught_up")


@pytest.mark.parametrize(
    ("history", "kind", "tamper"),
    [(fenced_by_a_hook, g.GroupFenced, without), (compared, m.PrimaryEnded, changed(how="hook"))],
    ids=["not closed", "not agreed to"],
)
def test_a_hook_that_may_not_end_an_epoch_is_named(history, kind, tamper):
    told = tampered(history(), kind, tamper, latest=True)
    assert any("I18 a hook ended epoch 1 of db1, which it may not" in breach for breach in told), told


@pytest.mark.parametrize(
    ("history", "kind", "tamper", "number"),
    [
        # One primary per epoch, behind the end of the one before.
        (compared, m.PrimaryEnded, without, "I18"),
        (compared, m.PrimaryEnded, changed(epoch=7), "I18"),
        (compared, m.PrimaryEnded, changed(member="db2"), "I18"),
        (compared, m.PrimaryEnded, changed(how="lease"), "I18"),
        (compared, m.PrimaryEnded, followed_by(ended()), "I18"),
        (compared, m.MemberPromoted, changed(epoch=3), "I18"),
        (compared, m.MemberPromoted, changed(epoch=1), "I18"),
        (compared, m.MemberPromoted, changed(was="db3"), "I18"),
        (compared, m.MemberPromoted, changed(ended="seen"), "I18"),
        (compared, m.MemberPromoted, followed_by(promoted("db3", 3, SECOND, was="db2")), "I18"),
        (compared, m.GroupServing, changed(member="db3"), "I18"),
        (compared, m.GroupServing, changed(epoch=1), "I18"),
        (compared, g.GroupFenced, changed(epoch=2), "I18"),
        (compared, g.GroupFenced, followed_by(fenced()), "I18"),
        (compared, g.FailoverEnded, followed_by(m.MemberRemoved(member="db2")), "I18"),
        (compared, g.FailoverEnded, followed_by(g.GroupDeleted()), "I18"),
        (fenced_by_a_hook, g.GroupFenced, without, "I18"),
        (compared, m.PrimaryEnded, changed(how="hook"), "I18"),
        (unfenced, g.GroupFenced, without, "I18"),
        (aborted, m.GroupReclaimed, changed(member="db2"), "I18"),
        (aborted, m.GroupReclaimed, changed(epoch=3), "I18"),
        (aborted, g.GroupFenced, without, "I18"),
        (again, g.GroupCreated, changed(epoch=0), "I18"),
        (again, g.GroupCreated, changed(set_version=0), "I18"),
        # The set.
        (synchronous, m.InSyncChanged, changed(member="db2"), "I15"),
        (synchronous, m.InSyncChanged, changed(epoch=2), "I15"),
        (synchronous, m.InSyncChanged, changed(version=3), "I15"),
        (synchronous, m.InSyncChanged, changed(in_sync=("db3",)), "I15"),
        (synchronous, m.InSyncChanged, changed(in_sync=("db1", "db2")), "I15"),
        (synchronous, m.PrimaryEnded, followed_by(GROWS), "I15"),
        (synchronous, m.MemberPromoted, changed(lossy=True), "I15"),
        (lossy, m.MemberPromoted, changed(lossy=False), "I15"),
        (compared, g.GroupFenced, followed_by(replace(GROWS, version=2)), "I15"),
        # The choice.
        (compared, m.MemberPromoted, changed(passed_over=()), "I16"),
        (compared, m.MemberPromoted, changed(member="db1"), "I16"),
        (compared, m.PositionReported, changed(position=40, member="db2"), "I16"),
        (compared, m.MemberPromoted, without, "I16"),
        # One failover at a time, and what it leaves behind.
        (compared, g.FailoverStarted, followed_by(started("group/db/failover/9", 1)), "I9"),
        (compared, g.GroupFenced, changed(failover=FIRST), "I9"),
        (compared, m.MemberPromoted, changed(failover=FIRST), "I9"),
        (compared, g.FailoverEnded, without, "I9"),
        (compared, g.FailoverEnded, followed_by(finished(SECOND)), "I9"),
        (aborted, m.GroupReclaimed, without, "I6"),
        (aborted, SagaCompensated, followed_by(SagaCompensated(cause="again")), "I14"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_cannot_have_happened_is_named(history, kind, tamper, number):
    # The first failover of each history is as it should be; it is the last event of the kind that is changed.
    found = tampered(history(), kind, tamper, latest=True)
    assert number in {breach.split(": ", 1)[1].split()[0] for breach in found}, found


def test_a_position_of_an_earlier_epoch_is_none():
    kept = [
        each for each in compared() if not (isinstance(each.event, m.PositionReported) and each.event.member == "db2")
    ]
    assert any("I16" in breach for breach in breaches(kept))


def test_the_sagas_own_word_that_it_promoted_is_compared_with_the_group():
    steps = [each.event for each in compared() if isinstance(each.event, StepSucceeded)]
    assert [step.step for step in steps].count("promote") == 2
    without_any = [each for each in compared() if not isinstance(each.event, m.MemberPromoted)]
    assert sum("I16 the saga says that it promoted" in breach for breach in breaches(without_any)) == 2


def test_what_an_operator_sets_counts_from_then_on():
    history = list(compared())
    at = next(index for index, each in enumerate(history) if isinstance(each.event, m.GroupServing))
    settings = history[at]._replace(event=g.GroupSettingsChanged(settings=g.GroupRules(max_lag=3)))
    assert any("I16" in breach for breach in breaches([*history[:at], settings, *history[at:]]))


@pytest.mark.parametrize(
    ("history", "kind", "tamper", "said"),
    [
        (compared, m.MemberPromoted, changed(epoch=3), "I18 the epoch went from 1 to 3"),
        (aborted, m.GroupReclaimed, changed(epoch=3), "I18 the epoch went from 1 to 3"),
        (
            compared,
            g.FailoverStarted,
            followed_by(started("group/db/failover/9", 1)),
            f"I9 group/db/failover/9 began while {SECOND} was under way",
        ),
    ],
    ids=["promoted", "reclaimed", "two at a time"],
)
def test_a_breach_that_leads_to_others_is_told_itself(history, kind, tamper, said):
    found = tampered(history(), kind, tamper, latest=True)
    assert any(breach.endswith(f"group/db: {said}") for breach in found), found
