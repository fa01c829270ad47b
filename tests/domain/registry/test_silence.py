"""Who has fallen silent by telemetry, and who is heard: what the writer makes of it."""

from datetime import timedelta

import pytest

from domain.registry.instance import (
    InstanceCheckChanged,
    InstanceDeregistered,
    InstanceHealthChanged,
    InstanceHeartbeatsChanged,
    InstanceRegistered,
    LeaseExpired,
)
from domain.registry.service import Heartbeat, RegisterInstance, renews
from domain.registry.silence import BeatHeard, ReportSilence, Silence
from domain.registry.timers import InstanceTimer, timers
from muster.wire.error import InvalidInstance
from muster.wire.registry.check import TtlCheck
from tests.given import given
from tests.sample import NOON, spec

A, B = "a", "b"
TTL = TtlCheck(ttl_seconds=10.0)
SLOW = TtlCheck(ttl_seconds=20.0, name="slow")
LEASED = spec(lease_seconds=10.0, heartbeats="topic")
CHECKED = spec(checks=(TTL, SLOW), heartbeats="topic")
EXPIRED = LeaseExpired(instance=A, incarnation=0, lease_seconds=10.0)
GONE = InstanceDeregistered(instance=A, incarnation=0, cause="lease_expired", health="healthy")


def registered(instance, told, incarnation=0):
    health = "unknown" if told.checks else "healthy"
    return InstanceRegistered(instance=instance, incarnation=incarnation, spec=told, health=health)


def silent(instance=A, incarnation=0, check=None):
    return ReportSilence(silent=(Silence(instance=instance, incarnation=incarnation, since=NOON, check=check),))


def heard(instance=A, incarnation=0):
    return ReportSilence(present=(BeatHeard(instance=instance, incarnation=incarnation, at=NOON),))


def flipped(was, to, check, cause):
    return InstanceHealthChanged(instance=A, was=was, to=to, cause=cause, check=check, check_status=to)


ALL_HEALTHY = (
    InstanceCheckChanged(instance=A, check="ttl", was="unknown", to="healthy", cause="heartbeat"),
    flipped("unknown", "healthy", "slow", "heartbeat"),
)
TTL_OVER = flipped("healthy", "unhealthy", "ttl", "no heartbeat within the ttl")


def test_a_silent_instance_leaves_as_when_its_lease_expires():
    given(registered(A, LEASED)).when(silent()).then(EXPIRED, GONE)


def test_a_ttl_check_of_a_silent_instance_is_unhealthy():
    given(registered(A, CHECKED), *ALL_HEALTHY).when(silent(check="ttl")).then(TTL_OVER)


def test_an_instance_that_is_heard_is_healthy_again():
    back = flipped("unhealthy", "healthy", "ttl", "heartbeat")
    given(registered(A, CHECKED), *ALL_HEALTHY, TTL_OVER).when(heard()).then(back)


def test_a_new_instance_that_is_heard_is_healthy():
    given(registered(A, CHECKED)).when(heard()).then(*ALL_HEALTHY)


def test_one_command_says_all_that_has_changed():
    gone = InstanceDeregistered(instance=B, incarnation=3, cause="lease_expired", health="healthy")
    both = ReportSilence(
        silent=(
            Silence(instance=A, incarnation=0, since=NOON, check="ttl"),
            Silence(instance=A, incarnation=0, since=NOON, check="slow"),
            Silence(instance=B, incarnation=3, since=NOON),
        )
    )
    given(registered(A, CHECKED), *ALL_HEALTHY, registered(B, LEASED, 3)).when(both).then(
        TTL_OVER,
        InstanceCheckChanged(
            instance=A, check="slow", was="healthy", to="unhealthy", cause="no heartbeat within the ttl"
        ),
        LeaseExpired(instance=B, incarnation=3, lease_seconds=10.0),
        gone,
    )


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(silent(incarnation=1), id="of another incarnation"),
        pytest.param(heard(incarnation=1), id="heard in another incarnation"),
        pytest.param(silent("c"), id="not registered"),
        pytest.param(silent(B, 1), id="kept by the writer itself"),
        pytest.param(heard(B, 1), id="heard by the writer itself"),
        pytest.param(silent(check="gone"), id="a check that it has not"),
    ],
)
def test_what_is_late_or_not_telemetrys_is_passed_over(command):
    direct = registered(B, spec(lease_seconds=10.0, checks=(TTL,)), 1)
    given(registered(A, LEASED), direct).when(command).nothing()


def test_the_rest_of_a_command_is_true_all_the_same():
    late = Silence(instance="c", incarnation=0, since=NOON)
    told = ReportSilence(silent=(late, *silent().silent))
    given(registered(A, LEASED)).when(told).then(EXPIRED, GONE)


def test_who_is_heard_in_the_same_command_is_not_silent():
    told = ReportSilence(silent=silent().silent, present=heard().present)
    given(registered(A, LEASED)).when(told).nothing()


def test_an_instance_without_a_lease_is_not_removed():
    given(registered(A, spec(heartbeats="topic"))).when(silent()).nothing()


def test_the_writer_keeps_no_time_for_what_telemetry_keeps():
    state = given(
        registered(A, spec(lease_seconds=10.0, checks=(TTL,), heartbeats="topic", deregister_after_seconds=5.0))
    )
    assert timers(state.state.instances[A]) == ()
    ill = given(
        registered(A, spec(checks=(TTL,), heartbeats="topic", deregister_after_seconds=5.0)),
        flipped("unknown", "unhealthy", "ttl", None),
    )
    # How long it may stay unhealthy is the writer's own business still.
    assert timers(ill.state.instances[A]) == (InstanceTimer(A, 0, "unhealthy", 5.0),)


def test_who_comes_back_to_direct_heartbeats_has_timers_again():
    direct = spec(lease_seconds=10.0)
    state = given(registered(A, LEASED)).when(RegisterInstance(instance=A, spec=direct))
    after = state.then(InstanceHeartbeatsChanged(instance=A, heartbeats="direct"))
    assert [timer.kind for timer in timers(after.instances[A])] == ["lease"]


def test_what_telemetry_says_renews_nothing():
    assert renews(heard()) is None
    assert renews(Heartbeat(instance=A)) is not None


@pytest.mark.parametrize(
    ("told", "field"),
    [
        (spec(lease_seconds=9.9, heartbeats="topic"), "lease_seconds"),
        (spec(checks=(SLOW, TtlCheck(ttl_seconds=9.9)), heartbeats="topic"), "checks.1.ttl_seconds"),
    ],
)
def test_a_lease_that_telemetry_cannot_keep_is_refused(told, field):
    given().when(RegisterInstance(instance=A, spec=told)).refused(InvalidInstance, field=field)


def test_a_short_lease_that_the_writer_keeps_is_no_concern_of_telemetry():
    given().when(RegisterInstance(instance=A, spec=spec(lease_seconds=0.5))).then(
        registered(A, spec(lease_seconds=0.5))
    )


def test_instants_have_an_offset():
    assert NOON.utcoffset() == timedelta(0)
    with pytest.raises(ValueError, match="timezone"):
        ReportSilence(silent=({"instance": A, "incarnation": 0, "since": "2026-01-02T12:00:00"},))
