"""A failover on the real machine, with something going wrong at each step where it can: it ends, and no two lead at a time."""

from collections.abc import Callable

import pytest

from domain.groups import commands as c
from domain.groups import member as m
from domain.groups.member import GroupReclaimed, MemberPromoted, PrimaryEnded
from domain.groups.state import FailoverEnded, FailoverStarted
from domain.saga import AbortSaga, SagaCompensated, SagaCompleted, SagaStarted
from muster.wire.error import VerbNotAllowed
from sagas.group_failover import GROUP_FAILOVER
from tests.domain.groups.beginnings import SECOND
from tests.sagas.groups.played import STREAM, Played

AT: dict[str, Callable[[Played], None]] = {
    # Where a failover stands still; at its other steps it does not, so nothing can come in between.
    "fence": lambda played: None,
    "compare": lambda played: played.ends("said"),
    "activate": lambda played: (played.ends("said"), reach(played)),  # type: ignore[func-returns-value]
}


def reach(played: Played) -> None:
    """All that can take over say how far their copies reach."""
    for name in sorted(played.alive - {"db1"}):
        played.says(m.ReportPosition, name, epoch=played.group.ownership.epoch, position=100)


def failing_over(step: str, **how: bool) -> Played:
    """A failover that an operator has asked for stands at the step."""
    played = Played(max_lag=10, **how)
    played.says(m.ReportPosition, "db1", epoch=1, position=100)
    played.ask(c.Failover())
    played.drive()
    AT[step](played)
    assert played.step_name == step
    return played


def silence(played: Played) -> None:
    """Nobody says what is waited for; all renew."""


def window(played: Played) -> None:
    """The primary renews in time for as long as the window is open: only its lease cannot end."""
    while played.step_name == "fence":
        played.monotonic += 0.1
        played.partition.deadlines.renew((STREAM, "db1"), lambda timer: timer.kind == "lease")
        played.passes_time(0.1)


def abort(played: Played) -> None:
    answer = played.ask(AbortSaga(), SECOND)
    refused = answer.error is not None and answer.error["name"] == VerbNotAllowed("").name
    assert refused is (played.step_name == "activate")
    played.drive()


def second(played: Played) -> None:
    """Another one is asked for while this one is under way."""
    answer = played.ask(c.Failover(to="db3"))
    assert answer.error is not None
    assert answer.error["name"] == "VerbNotAllowed"
    assert played.ask(c.Failover(automatic=True)).status == "unchanged"


def returns(played: Played) -> None:
    """The old primary's host comes back with another process."""
    played.joins("db1", "p2")


def all_away(played: Played) -> None:
    """Nobody is heard any more, for long."""
    played.alive.clear()
    played.passes_time(40)
    assert played.group.primary is None
    assert {member.status for member in played.group.members.values()} <= {"failed", "recovering"}
    for name in ("db1", "db2", "db3"):
        played.joins(name, "p3")


FAULTS = [silence, window, abort, second, returns, all_away]


@pytest.mark.parametrize("restarts", [False, True], ids=["one writer", "another writer after each batch"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("step", AT)
def test_whatever_goes_wrong_it_ends_and_the_group_is_led(step, fault, restarts):
    played = failing_over(step, restarts=restarts)
    fault(played)
    settle(played)
    epochs = [each.event for each in played.history if isinstance(each.event, MemberPromoted | GroupReclaimed)]
    assert [told.epoch for told in epochs] == list(range(1, len(epochs) + 1))
    assert played.invariants.owed() == []
    assert played.partition.committed() == played.recovered().committed()


def settle(played: Played) -> None:
    """Nothing more goes wrong: runners do what the group says, until it is led and nothing is under way."""
    for _ in range(100):
        group = played.group
        own = group.ownership
        if not played.sagas and group.serving:
            return
        if own.holder in played.alive and own.fenced:
            if group.incarnation == played.incarnations[own.holder]:
                played.ends("said")
        elif own.holder in played.alive and not group.serving and group.incarnation == played.incarnations[own.holder]:
            played.serves()
        elif own.holder is None and played.step_name == "compare":
            reach(played)
        for name in sorted(played.alive):
            if played.group.members[name].status == "recovering":
                played.says(m.ReportMember, name, outcome="ready")
        played.passes_time(0.5)
    raise AssertionError(f"it never ends: {played.group}, {played.sagas}")


def outcomes(played: Played) -> list[str]:
    return [each.event.outcome for each in played.history if isinstance(each.event, FailoverEnded)]


def test_a_silent_primary_is_waited_for_until_its_lease_is_over_and_no_longer():
    played = failing_over("fence")
    played.alive.discard("db1")
    since = played.monotonic
    while played.step_name == "fence":
        played.passes_time(0.1)
    assert played.monotonic - since == pytest.approx(2.0, abs=0.25)
    assert [each.event.how for each in played.history if isinstance(each.event, PrimaryEnded)] == ["lease"]


def test_a_fenced_primary_cannot_renew_so_the_window_never_has_to_end_it():
    played = failing_over("fence")
    played.passes_time(3)
    assert played.step_name == "compare"
    assert played.says(m.RenewMember, "db1", epoch=1).error["name"] == "StaleEpoch"


def test_the_window_over_gives_the_epoch_back_and_a_later_end_is_followed():
    played = failing_over("fence")
    window(played)
    assert outcomes(played)[-1] == "timeout"
    assert (played.group.ownership.epoch, played.group.ownership.holder) == (2, "db1")
    played.serves()
    played.ends()
    reach(played)
    assert played.group.ownership.holder == "db2"


def test_from_a_proven_end_to_the_promotion_is_one_batch_of_the_log():
    played = Played()
    before = len(played.recorded)
    played.ends()
    [all_of_it] = played.recorded[before:]
    assert [type(each.event) for each in all_of_it][:3] == [PrimaryEnded, SagaStarted, FailoverStarted]
    steps = [each.event.step for each in all_of_it if hasattr(each.event, "step") and hasattr(each.event, "result")]
    pivot = GROUP_FAILOVER.pivot
    assert steps == [step.name for step in GROUP_FAILOVER.steps[: pivot + 1]]
    assert [each.event.member for each in all_of_it if isinstance(each.event, MemberPromoted)] == ["db2"]
    assert len({each.command_id for each in all_of_it}) == 1


def test_an_end_counts_also_where_the_failover_that_it_makes_due_is_refused():
    played = Played(synchronous=True)
    own = played.group.ownership
    own_word = m.ReportEnded(member="db1", incarnation=played.incarnations["db1"], epoch=own.epoch, how="seen")
    assert played.ask(own_word).status == "accepted"
    assert played.group.ownership.holder is None
    # Nobody else is in the in-sync set. Whoever asks hears so; the runner of the old primary has not asked.
    assert played.sagas == []
    assert played.ask(c.Failover()).error["name"] == "DataLossRefused"


def test_a_primary_that_is_lost_before_it_serves_is_followed_by_the_next():
    played = Played()
    played.ends()
    played.ends()
    assert (played.group.ownership.holder, played.group.ownership.epoch) == ("db3", 3)
    assert outcomes(played) == ["completed", "lost"]
    assert [type(each.event) for each in played.history if isinstance(each.event, SagaCompleted | SagaCompensated)] == [
        SagaCompleted,
        SagaCompleted,
    ]
