"""Checks that fail together: who goes on serving, for how long, and what ends it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from domain.message import foreseen
from domain.registry import service as decider
from domain.registry.doubt.event import InstanceChecksBelieved, InstanceChecksDisputed
from domain.registry.health import disputed_max
from domain.registry.instance import (
    InstanceCheckChanged,
    InstanceDeregisterAfterChanged,
    InstanceDeregistered,
    InstanceHealthChanged,
    ServiceEvent,
)
from domain.registry.observation import ExpireDoubt, ExpireUnhealthy, ObserveCheck, expire
from domain.registry.service import BelieveChecks, ReportHealth
from domain.registry.timers import InstanceTimer, left, timers
from domain.registry.versions import Service, falls_between_forgetting
from muster.wire.error import InstanceNotFound, ServiceNotFound
from muster.wire.registry.check import HttpCheck, TtlCheck
from tests.given import Given
from tests.sample import NOON, registered

QUICK = HttpCheck(url="http://10.0.0.7:8080/health", name="ready", interval_seconds=1.0)
SLOW = replace(QUICK, interval_seconds=30.0)
TTL = TtlCheck(ttl_seconds=5.0, name="ttl")


def after(state: Service, *events: ServiceEvent, seconds: float = 0.0) -> Service:
    """The service after the events, which are recorded so long after noon."""
    for event in events:
        told = foreseen("service/orders", state.version, event)
        state = decider.evolve(state, told._replace(at=NOON + timedelta(seconds=seconds)))
    return state


def fleet(count: int, check: HttpCheck = QUICK, more: tuple[TtlCheck, ...] = ()) -> Service:
    """So many instances, i0 and so on, all of them healthy."""
    state = decider.INITIAL
    for number in range(count):
        name = f"i{number}"
        state = after(state, registered(name, incarnation=state.version, checks=(check, *more)), seconds=-100.0)
        found = [flip(name, "unknown", "healthy", check.name)]
        if more:
            found = [
                InstanceCheckChanged(instance=name, check=check.name, was="unknown", to="healthy"),
                flip(name, "unknown", "healthy", "ttl"),
            ]
        state = after(state, *found, seconds=-99.0)
    return state


def flip(name: str, was: str, to: str, check: str = "ready", cause: str | None = None) -> InstanceHealthChanged:
    return InstanceHealthChanged(instance=name, was=was, to=to, cause=cause, check=check, check_status=to)


def fall(name: str) -> InstanceHealthChanged:
    return flip(name, "healthy", "unhealthy")


def seen(
    state: Service, name: str, seconds: float = 0.0, status: str = "unhealthy", mass: float = 30.0
) -> ObserveCheck:
    return ObserveCheck(
        instance=name,
        incarnation=state.instances[name].incarnation,
        check="ready",
        status=status,
        at=NOON + timedelta(seconds=seconds),
        mass_flip_seconds=mass,
    )


def falling(state: Service, *names: str, seconds: float = 0.0, mass: float = 30.0) -> Service:
    """The service once the checks of these have failed, one after the other."""
    for name in names:
        state = after(state, *decider.decide(seen(state, name, seconds, mass=mass), state), seconds=seconds)
    return state


def disputed(name: str, fallen: int, healthy: int) -> InstanceChecksDisputed:
    return InstanceChecksDisputed(instance=name, seconds=30.0, fallen=fallen, healthy=healthy)


def serving(state: Service) -> set[str]:
    return {name for name, instance in state.instances.items() if instance.discoverable}


def suspects(state: Service) -> set[str]:
    return {name for name, instance in state.instances.items() if instance.suspect is not None}


class TestWhoGoesOnServing:
    def test_one_that_fails_alone_goes_at_once(self):
        state = fleet(3)
        Given(state, decider).when(seen(state, "i1")).then(fall("i1"))

    def test_two_of_two_are_no_crowd(self):
        state = falling(fleet(2), "i0", "i1")
        assert serving(state) == set()

    def test_when_more_have_fallen_than_are_left_all_of_them_serve_again(self):
        state = falling(fleet(5), "i0", "i1")
        assert serving(state) == {"i2", "i3", "i4"}
        # The one that falls now never stops to serve: its doubt is recorded first.
        Given(state, decider).when(seen(state, "i2")).then(
            disputed("i1", 3, 2), disputed("i0", 3, 2), disputed("i2", 3, 2), fall("i2")
        )
        state = falling(state, "i2")
        assert serving(state) == {"i0", "i1", "i2", "i3", "i4"}
        assert suspects(state) == {"i0", "i1", "i2"}
        assert {state.instances[name].health for name in suspects(state)} == {"unhealthy"}

    def test_half_is_not_more_than_half(self):
        state = falling(fleet(6), "i0", "i1", "i2")
        assert serving(state) == {"i3", "i4", "i5"}

    def test_those_that_were_ill_before_are_not_counted_on_either_side(self):
        state = after(fleet(9), *(fall(f"i{number}") for number in range(6)), seconds=-60.0)
        state = falling(state, "i6", "i7", "i8")
        assert serving(state) == suspects(state) == {"i6", "i7", "i8"}

    def test_falls_that_are_further_apart_are_not_together(self):
        state = falling(fleet(4), "i0", "i1")
        assert serving(falling(state, "i2", seconds=2.5)) == {"i3"}
        assert serving(falling(state, "i2", seconds=1.5)) == {"i0", "i1", "i2", "i3"}

    def test_checks_that_are_asked_seldom_fail_together_within_their_interval(self):
        state = falling(fleet(4, SLOW), "i0")
        state = falling(state, "i1", seconds=12.0)
        assert suspects(falling(state, "i2", seconds=29.0)) == {"i0", "i1", "i2"}
        assert suspects(falling(state, "i2", seconds=31.0)) == set()

    def test_while_there_is_doubt_it_is_about_all_that_fall(self):
        state = falling(fleet(4), "i0", "i1", "i2")
        assert serving(falling(state, "i3", seconds=20.0)) == {"i0", "i1", "i2", "i3"}

    def test_who_is_well_again_has_not_fallen_with_the_others(self):
        state = after(falling(fleet(5), "i0", "i1"), flip("i0", "unhealthy", "healthy"), fall("i0"))
        state = after(state, flip("i0", "unhealthy", "healthy"))
        assert suspects(falling(state, "i2")) == set()

    def test_who_was_never_healthy_has_not_fallen(self):
        state = decider.INITIAL
        for number in range(4):
            state = after(state, registered(f"i{number}", incarnation=state.version, checks=(QUICK,)))
        assert suspects(falling(state, "i0", "i1", "i2", "i3")) == set()

    def test_who_is_ill_by_the_word_of_others_too_is_not_taken_back(self):
        state = fleet(5, more=(TTL,))
        ill = InstanceCheckChanged(instance="i0", check="ttl", was="healthy", to="unhealthy")
        state = after(falling(state, "i0", "i1"), ill)
        assert suspects(falling(state, "i2", "i3")) == {"i1", "i2", "i3"}

    def test_who_reports_itself_ill_goes_whoever_else_does(self):
        state = fleet(4)
        for number in range(4):
            report = ReportHealth(instance=f"i{number}", status="unhealthy")
            state = after(state, *decider.decide(report, state))
        assert serving(state) == set()

    def test_it_can_be_turned_off(self):
        assert serving(falling(fleet(4), "i0", "i1", "i2", "i3", mass=0.0)) == set()

    def test_of_many_that_fell_some_are_taken_back_at_each_fall(self):
        count = 3 * disputed_max
        state = falling(fleet(count), *(f"i{number}" for number in range(count // 2)))
        assert not suspects(state)
        state = falling(state, f"i{count // 2}")
        assert len(suspects(state)) == disputed_max + 1
        state = falling(state, f"i{count // 2 + 1}")
        assert len(suspects(state)) == count // 2 + 2


class TestWhatEndsIt:
    @pytest.fixture
    def doubted(self) -> Service:
        return falling(fleet(4, more=(TTL,)), "i0", "i1", "i2")

    def test_its_checks_succeed(self, doubted):
        state = after(doubted, *decider.decide(seen(doubted, "i0", status="healthy"), doubted))
        assert state.instances["i0"].health == "healthy"
        assert suspects(state) == {"i1", "i2"}

    def test_the_time_passes(self, doubted):
        (timer,) = (timer for timer in timers(doubted.instances["i0"]) if timer.kind == "doubt")
        assert timer == InstanceTimer("i0", doubted.instances["i0"].incarnation, "doubt", 30.0, since=NOON)
        over = Given(doubted, decider).when(expire(timer)).then(InstanceChecksBelieved(instance="i0", because="time"))
        assert serving(over) == {"i1", "i2", "i3"}
        assert not [timer for timer in timers(over.instances["i0"]) if timer.kind == "doubt"]

    @pytest.mark.parametrize(
        ("passed", "rest"),
        [
            # A clock that is behind the log's makes it no longer than it was; then what is left of it;
            (-50.0, 30.0),
            (10.0, 20.0),
            # never less than a look takes: an interval, the timeout, and a second;
            (28.0, 4.0),
            (55.0, 4.0),
            # and that no longer than the doubt, once more.
            (58.0, 2.0),
            (70.0, 0.0),
        ],
    )
    def test_for_a_new_writer_its_time_has_passed_as_far_as_the_log_says(self, doubted, passed, rest):
        assert self.left(doubted, now=passed, newest=max(passed, 0.0)) == rest

    def test_a_new_writer_looks_first_whose_clock_is_ahead_or_before_whom_nobody_wrote(self, doubted):
        assert self.left(doubted, now=3_600.0, newest=0.0) == 4.0
        assert self.left(doubted, now=3_600.0, newest=58.0) == 2.0

    def left(self, doubted: Service, now: float, newest: float) -> float | None:
        instance = doubted.instances["i0"]
        (timer,) = (timer for timer in timers(instance) if timer.kind == "doubt")
        return left(instance, timer, NOON + timedelta(seconds=now), NOON + timedelta(seconds=newest))

    def test_for_a_new_writer_a_lease_and_a_ttl_check_have_all_of_their_time(self, doubted):
        others = [timer for timer in timers(doubted.instances["i0"]) if timer.kind != "doubt"]
        assert [left(doubted.instances["i0"], timer, NOON, NOON) for timer in others] == [None]

    def test_one_that_begins_when_another_ends_is_another(self, doubted):
        state = after(doubted, flip("i0", "unhealthy", "healthy"), seconds=5.0)
        state = falling(state, "i0", seconds=5.0)
        before, now = ({*timers(told.instances["i0"])} for told in (doubted, state))
        assert [timer.kind for timer in before - now] == ["doubt"]

    def test_a_host_says_so_too(self, doubted):
        Given(doubted, decider).when(ReportHealth(instance="i0", status="unhealthy", check="ttl", cause="oom")).then(
            InstanceCheckChanged(instance="i0", check="ttl", was="healthy", to="unhealthy", cause="oom"),
            InstanceChecksBelieved(instance="i0", because="reported"),
        )

    def test_a_host_that_says_otherwise_changes_nothing(self, doubted):
        state = after(doubted, *decider.decide(ReportHealth(instance="i0", status="healthy"), doubted))
        assert suspects(state) == {"i0", "i1", "i2"}

    def test_an_operator_says_so_of_all(self, doubted):
        Given(doubted, decider).when(BelieveChecks()).then(
            *(InstanceChecksBelieved(instance=f"i{number}", because="told") for number in range(3))
        )

    def test_an_operator_says_so_of_some(self, doubted):
        Given(doubted, decider).when(BelieveChecks(instances=("i2", "i3"))).then(
            InstanceChecksBelieved(instance="i2", because="told")
        )

    def test_what_is_not_there_cannot_be_believed(self, doubted):
        Given(doubted, decider).when(BelieveChecks(instances=("x",))).refused(InstanceNotFound, instance="x")
        Given(decider.INITIAL, decider).when(BelieveChecks()).refused(ServiceNotFound)

    def test_it_leaves(self, doubted):
        gone = InstanceDeregistered(instance="i0", incarnation=0, cause="requested", health="unhealthy")
        state = after(doubted, gone)
        assert (state.doubted, suspects(state)) == (2, {"i1", "i2"})

    def test_a_late_end_is_none(self, doubted):
        state = after(doubted, flip("i0", "unhealthy", "healthy"))
        command = ExpireDoubt(instance="i0", incarnation=state.instances["i0"].incarnation)
        Given(state, decider).when(command).nothing()

    def test_a_long_illness_is_counted_from_when_the_checks_are_believed(self, doubted):
        spec = replace(doubted.instances["i0"].spec, deregister_after_seconds=5.0)
        ill = replace(doubted.instances["i0"], spec=spec)
        assert "unhealthy" not in {timer.kind for timer in timers(ill)}
        assert "unhealthy" in {timer.kind for timer in timers(replace(ill, suspect=None))}
        limited = after(doubted, InstanceDeregisterAfterChanged(instance="i0", deregister_after_seconds=5.0))
        Given(limited, decider).when(ExpireUnhealthy(instance="i0", incarnation=ill.incarnation)).nothing()


def test_what_is_counted_is_what_is_there():
    state = falling(fleet(7), "i0", "i1", "i2", "i3", "i4")
    state = after(state, flip("i0", "unhealthy", "healthy"), InstanceChecksBelieved(instance="i1", because="told"))
    anew = Service(state.version, dict(state.instances), state.holders, state.kept)
    assert (state.healthy, state.doubted) == (anew.healthy, anew.doubted) == (3, 3)


def test_falls_of_long_ago_are_forgotten():
    state = fleet(1)
    for number in range(10):
        state = after(state, fall("i0"), flip("i0", "unhealthy", "healthy"), seconds=20.0 * number)
    assert state.falls.count(NOON) == 4
    assert state.falls.count(NOON + timedelta(seconds=160)) == 2
    assert list(state.falls.names(NOON + timedelta(seconds=170))) == ["i0"]
    for number in range(10, 1_000):
        state = after(state, fall("i0"), flip("i0", "unhealthy", "healthy"), seconds=20.0 * number)
    assert len(state.falls.told) <= 4 + falls_between_forgetting


def test_falls_that_were_rolled_back_are_none_and_a_version_keeps_those_that_it_had():
    before = falling(fleet(4), "i0")
    tried = falling(before, "i1", "i2")
    after_all = falling(before, "i3")
    assert [list(state.falls.names(NOON)) for state in (before, tried, after_all)] == [
        ["i0"],
        ["i2", "i1", "i0"],
        ["i3", "i0"],
    ]
    # Two services that begin have nothing in common.
    assert list(fleet(1).falls.names(NOON)) == []
