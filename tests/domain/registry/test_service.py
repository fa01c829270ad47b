"""The service decider: every command, every event, every refusal."""

from dataclasses import replace

import pytest

from domain.registry.instance import (
    InstanceAddressChanged,
    InstanceCheckChanged,
    InstanceChecksChanged,
    InstanceDeregisterAfterChanged,
    InstanceDeregistered,
    InstanceDrainEnded,
    InstanceDrainStarted,
    InstanceHealthChanged,
    InstanceLeaseChanged,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    InstanceMetadataChanged,
    InstanceRegistered,
    InstanceTagsChanged,
    InstanceWeightChanged,
    InstanceZoneChanged,
    LeaseExpired,
)
from domain.registry.observation import expire
from domain.registry.service import (
    ClearMaintenance,
    DeregisterInstance,
    DrainInstance,
    ExpireLease,
    ExpireTtl,
    ExpireUnhealthy,
    Heartbeat,
    ObserveCheck,
    RegisterInstance,
    ReportHealth,
    SetMaintenance,
    UndrainInstance,
    renews,
)
from domain.registry.timers import InstanceTimer, keeps_timers, timers
from muster.wire.error import InstanceNotFound, InvalidCommand, ServiceNotFound, StaleIncarnation
from muster.wire.registry.check import TtlCheck
from tests.given import given
from tests.sample import FULL, HTTP, PLAIN, TCP, TTL, registered, spec

A = "a"
GONE = InstanceDeregistered(instance=A, incarnation=0, cause="requested", health="healthy")
MAINTENANCE = InstanceMaintenanceSet(instance=A)
DRAINING = InstanceDrainStarted(instance=A)


def health(was, to, cause=None, check=None, status=None):
    return InstanceHealthChanged(instance=A, was=was, to=to, cause=cause, check=check, check_status=status)


def check(name, was, to, cause=None):
    return InstanceCheckChanged(instance=A, check=name, was=was, to=to, cause=cause)


REPORTED_ILL = health("healthy", "unhealthy", "disk full", "reported", "unhealthy")
TO_PUBLIC = [
    DeregisterInstance(instance=A, incarnation=7),
    ReportHealth(instance=A, status="healthy", incarnation=7),
    Heartbeat(instance=A, incarnation=7),
]
NEEDS_AN_INSTANCE = [
    ReportHealth(instance=A, status="healthy"),
    Heartbeat(instance=A),
    SetMaintenance(instance=A),
    ClearMaintenance(instance=A),
    DrainInstance(instance=A),
    UndrainInstance(instance=A),
]
FROM_INSIDE = [
    ObserveCheck(instance=A, incarnation=7, check="ttl", status="unhealthy"),
    ExpireLease(instance=A, incarnation=7),
    ExpireTtl(instance=A, incarnation=7, check="ttl"),
    ExpireUnhealthy(instance=A, incarnation=7),
]


def kind(command):
    return type(command).__name__


class TestRegistering:
    def test_an_instance_without_checks_is_healthy_at_once(self):
        given().when(RegisterInstance(instance=A, spec=PLAIN)).then(
            InstanceRegistered(instance=A, incarnation=0, spec=PLAIN, health="healthy")
        )

    def test_an_instance_with_checks_is_unknown_until_the_first_result(self):
        given().when(RegisterInstance(instance=A, spec=FULL)).then(
            InstanceRegistered(instance=A, incarnation=0, spec=FULL, health="unknown")
        )

    def test_the_incarnation_is_the_stream_version_of_the_registration(self):
        given(registered("b"), replace(MAINTENANCE, instance="b")).when(RegisterInstance(instance=A, spec=PLAIN)).then(
            registered(A, incarnation=2)
        )

    def test_registering_again_after_leaving_makes_a_new_incarnation(self):
        given(registered(), GONE).when(RegisterInstance(instance=A, spec=PLAIN)).then(registered(incarnation=2))

    def test_registering_identically_changes_nothing(self):
        given(registered()).when(RegisterInstance(instance=A, spec=PLAIN)).nothing()

    @pytest.mark.parametrize(
        ("changes", "event"),
        [
            ({"address": "10.0.0.9"}, InstanceAddressChanged(instance=A, address="10.0.0.9", port=8080)),
            ({"port": 81}, InstanceAddressChanged(instance=A, address="10.0.0.7", port=81)),
            ({"metadata": {"k": "v"}}, InstanceMetadataChanged(instance=A, metadata={"k": "v"})),
            ({"tags": ("blue",)}, InstanceTagsChanged(instance=A, tags=("blue",))),
            ({"zone": "eu-1a"}, InstanceZoneChanged(instance=A, zone="eu-1a")),
            ({"weight": 7}, InstanceWeightChanged(instance=A, weight=7)),
            ({"lease_seconds": 9.0}, InstanceLeaseChanged(instance=A, lease_seconds=9.0)),
            (
                {"deregister_after_seconds": 9.0},
                InstanceDeregisterAfterChanged(instance=A, deregister_after_seconds=9.0),
            ),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_a_changed_field_is_an_event_that_names_it(self, changes, event):
        after = given(registered()).when(RegisterInstance(instance=A, spec=spec(**changes))).then(event)
        assert after.instances[A].spec == spec(**changes)

    def test_all_changed_fields_are_told_in_one_go(self):
        after = (
            given(registered())
            .when(RegisterInstance(instance=A, spec=spec(FULL, address="b", checks=())))
            .then(
                InstanceAddressChanged(instance=A, address="b", port=8080),
                InstanceMetadataChanged(instance=A, metadata=FULL.metadata),
                InstanceTagsChanged(instance=A, tags=FULL.tags),
                InstanceZoneChanged(instance=A, zone=FULL.zone),
                InstanceWeightChanged(instance=A, weight=FULL.weight),
                InstanceLeaseChanged(instance=A, lease_seconds=30.0),
                InstanceDeregisterAfterChanged(instance=A, deregister_after_seconds=3600.0),
            )
        )
        assert after.instances[A].incarnation == 0

    def test_new_checks_make_a_healthy_instance_unknown(self):
        given(registered()).when(RegisterInstance(instance=A, spec=spec(checks=(TCP,)))).then(
            InstanceChecksChanged(instance=A, checks=(TCP,)), health("healthy", "unknown", "the checks changed")
        )

    def test_the_status_of_an_unchanged_check_is_carried_over(self):
        after = (
            given(registered(checks=(TCP, HTTP)), health("unknown", "unhealthy", "refused", "port", "unhealthy"))
            .when(RegisterInstance(instance=A, spec=spec(checks=(TCP, TTL))))
            .then(InstanceChecksChanged(instance=A, checks=(TCP, TTL)))
        )
        assert {name: told.status for name, told in after.instances[A].checks.items()} == {
            "port": "unhealthy",
            "ttl": "unknown",
        }

    def test_reported_health_outlives_a_change_of_the_checks(self):
        given(registered(), REPORTED_ILL).when(RegisterInstance(instance=A, spec=spec(checks=(TCP,)))).then(
            InstanceChecksChanged(instance=A, checks=(TCP,))
        )

    def test_taking_out_the_failing_check_heals(self):
        given(registered(checks=(TCP,)), health("unknown", "unhealthy", "refused", "port", "unhealthy")).when(
            RegisterInstance(instance=A, spec=PLAIN)
        ).then(InstanceChecksChanged(instance=A, checks=()), health("unhealthy", "healthy", "the checks changed"))


class TestLeaving:
    def test_an_instance_leaves_on_request(self):
        given(registered()).when(DeregisterInstance(instance=A, incarnation=0)).then(GONE)

    def test_the_last_health_is_told(self):
        given(registered(), REPORTED_ILL).when(DeregisterInstance(instance=A)).then(
            InstanceDeregistered(instance=A, incarnation=0, cause="requested", health="unhealthy")
        )

    def test_who_is_not_here_has_left_already(self):
        given().when(DeregisterInstance(instance=A)).nothing()


class TestRefusals:
    @pytest.mark.parametrize("command", TO_PUBLIC, ids=kind)
    def test_another_incarnation_is_refused_with_the_current_one(self, command):
        given(registered("b"), registered(incarnation=1)).when(command).refused(StaleIncarnation, incarnation=1)

    @pytest.mark.parametrize("command", NEEDS_AN_INSTANCE, ids=kind)
    def test_nothing_is_said_of_an_instance_of_an_unknown_service(self, command):
        given().when(command).refused(ServiceNotFound)

    @pytest.mark.parametrize("command", NEEDS_AN_INSTANCE, ids=kind)
    def test_a_late_word_does_not_bring_a_deregistered_instance_back(self, command):
        given(registered("b"), registered(incarnation=1), replace(GONE, incarnation=1)).when(command).refused(
            InstanceNotFound, instance=A
        )

    @pytest.mark.parametrize("name", ["port", "nonsense"])
    def test_only_ttl_checks_can_be_reported(self, name):
        given(registered(checks=(TCP,))).when(ReportHealth(instance=A, status="healthy", check=name)).refused(
            InvalidCommand, field="check"
        )


class TestHealth:
    def test_a_first_report_of_health_is_a_check_that_changed(self):
        given(registered()).when(ReportHealth(instance=A, status="healthy", cause="ok")).then(
            check("reported", "unknown", "healthy", "ok")
        )

    def test_a_report_of_illness_makes_the_instance_ill(self):
        given(registered()).when(ReportHealth(instance=A, status="unhealthy", cause="disk full")).then(REPORTED_ILL)

    def test_another_cause_alone_is_no_event(self):
        given(registered(), REPORTED_ILL).when(
            ReportHealth(instance=A, status="unhealthy", cause="disk very full")
        ).nothing()

    def test_the_worst_check_wins(self):
        given(registered(checks=(TCP, TTL)), health("unknown", "unhealthy", "refused", "port", "unhealthy")).when(
            ReportHealth(instance=A, status="healthy", check="ttl")
        ).then(check("ttl", "unknown", "healthy"))

    def test_the_last_check_to_recover_heals_the_instance(self):
        given(
            registered(checks=(TCP, TTL)),
            health("unknown", "unhealthy", "refused", "port", "unhealthy"),
            check("ttl", "unknown", "healthy"),
        ).when(ObserveCheck(instance=A, incarnation=0, check="port", status="healthy", cause="connected")).then(
            health("unhealthy", "healthy", "connected", "port", "healthy")
        )

    def test_an_unchanged_result_is_no_event(self):
        given(registered(checks=(TCP,)), health("unknown", "healthy", None, "port", "healthy")).when(
            ObserveCheck(instance=A, incarnation=0, check="port", status="healthy")
        ).nothing()

    def test_a_result_of_a_check_that_is_no_more_is_dropped(self):
        given(registered()).when(ObserveCheck(instance=A, incarnation=0, check="port", status="unhealthy")).nothing()

    @pytest.mark.parametrize("command", FROM_INSIDE, ids=kind)
    def test_what_was_seen_of_a_former_incarnation_is_late_and_dropped(self, command):
        given(
            registered(checks=(TTL,), lease_seconds=5.0, deregister_after_seconds=5.0),
            health("unknown", "unhealthy", None, "ttl", "healthy"),
        ).when(command).nothing()

    @pytest.mark.parametrize("command", FROM_INSIDE, ids=kind)
    def test_what_was_seen_of_an_instance_that_has_left_is_dropped(self, command):
        given().when(command).nothing()

    def test_a_heartbeat_makes_every_ttl_check_healthy(self):
        second = TtlCheck(ttl_seconds=9.0, name="second")
        given(registered(checks=(TTL, second))).when(Heartbeat(instance=A)).then(
            check("ttl", "unknown", "healthy", "heartbeat"),
            health("unknown", "healthy", "heartbeat", "second", "healthy"),
        )

    def test_a_heartbeat_of_the_healthy_is_no_event(self):
        given(registered()).when(Heartbeat(instance=A)).nothing()


class TestOutOfDiscovery:
    def test_maintenance_is_set_once(self):
        after = given(registered()).when(SetMaintenance(instance=A)).then(MAINTENANCE)
        assert after.instances[A].health == "healthy"
        assert not after.instances[A].discoverable

    def test_maintenance_is_cleared_once(self):
        after = (
            given(registered(), MAINTENANCE)
            .when(ClearMaintenance(instance=A))
            .then(InstanceMaintenanceCleared(instance=A))
        )
        assert after.instances[A].discoverable

    def test_draining_starts_once(self):
        after = given(registered()).when(DrainInstance(instance=A)).then(DRAINING)
        assert after.instances[A].health == "healthy"
        assert not after.instances[A].discoverable

    def test_draining_ends_once(self):
        after = given(registered(), DRAINING).when(UndrainInstance(instance=A)).then(InstanceDrainEnded(instance=A))
        assert after.instances[A].discoverable

    def test_clearing_what_is_not_set_changes_nothing(self):
        given(registered(), DRAINING).when(ClearMaintenance(instance=A)).nothing()
        given(registered(), MAINTENANCE).when(UndrainInstance(instance=A)).nothing()


class TestExpiry:
    def test_a_lease_that_runs_out_removes_the_instance(self):
        given(registered(lease_seconds=5.0)).when(ExpireLease(instance=A, incarnation=0)).then(
            LeaseExpired(instance=A, incarnation=0, lease_seconds=5.0),
            InstanceDeregistered(instance=A, incarnation=0, cause="lease_expired", health="healthy"),
        )

    def test_no_lease_no_expiry(self):
        given(registered()).when(ExpireLease(instance=A, incarnation=0)).nothing()

    def test_a_ttl_that_runs_out_makes_the_instance_ill(self):
        given(registered(checks=(TTL,))).when(ExpireTtl(instance=A, incarnation=0, check="ttl")).then(
            health("unknown", "unhealthy", "no heartbeat within the ttl", "ttl", "unhealthy")
        )

    def test_a_ttl_check_that_is_no_more_cannot_run_out(self):
        given(registered()).when(ExpireTtl(instance=A, incarnation=0, check="ttl")).nothing()

    def test_what_is_ill_for_too_long_is_removed_with_that_cause(self):
        given(registered(deregister_after_seconds=5.0), REPORTED_ILL).when(
            ExpireUnhealthy(instance=A, incarnation=0)
        ).then(InstanceDeregistered(instance=A, incarnation=0, cause="unhealthy_too_long", health="unhealthy"))

    @pytest.mark.parametrize(
        "history",
        [[registered(deregister_after_seconds=5.0)], [registered(), REPORTED_ILL]],
        ids=["healthy again", "no limit any more"],
    )
    def test_it_stays_when_the_reason_has_gone(self, history):
        given(*history).when(ExpireUnhealthy(instance=A, incarnation=0)).nothing()


class TestTimers:
    def test_what_can_run_out_is_told_with_its_length(self):
        ill = health("unknown", "unhealthy", "503", "ready", "unhealthy")
        state = given(registered(checks=FULL.checks, lease_seconds=30.0, deregister_after_seconds=3600.0), ill).state
        assert set(timers(state.instances[A])) == {
            InstanceTimer(A, 0, "lease", 30.0),
            InstanceTimer(A, 0, "ttl", 5.0, "ttl"),
            InstanceTimer(A, 0, "unhealthy", 3600.0),
        }

    def test_a_ttl_that_has_run_out_does_not_run_again(self):
        ill = health("unknown", "unhealthy", None, "ttl", "unhealthy")
        assert timers(given(registered(checks=(TTL,)), ill).state.instances[A]) == ()

    def test_the_healthy_are_not_about_to_be_removed(self):
        assert timers(given(registered(deregister_after_seconds=5.0)).state.instances[A]) == ()

    @pytest.mark.parametrize(
        ("event", "limits", "kept"),
        [
            (REPORTED_ILL, {}, True),
            (REPORTED_ILL, {"deregister_after_seconds": 5.0}, False),
            (health("unknown", "unhealthy", None, "ttl", "unhealthy"), {"checks": (TTL,)}, False),
            (InstanceWeightChanged(instance=A, weight=7), {}, False),
        ],
        ids=["a report", "a report of who may be removed", "a ttl check", "not about health"],
    )
    def test_an_event_that_keeps_the_timers_changes_none(self, event, limits, kept):
        before, after = given(registered(**limits)).state, given(registered(**limits), event).state
        assert keeps_timers(event, after.instances[A]) is kept
        assert not kept or timers(before.instances[A]) == timers(after.instances[A])

    @pytest.mark.parametrize(
        ("command", "lease", "ttl", "unhealthy"),
        [
            (RegisterInstance(instance=A, spec=PLAIN), True, False, False),
            (Heartbeat(instance=A), True, True, False),
            (ReportHealth(instance=A, status="healthy", check="ttl"), False, True, False),
            (ReportHealth(instance=A, status="unhealthy", check="ttl"), False, False, False),
            (ReportHealth(instance=A, status="healthy", check="other"), False, False, False),
            (SetMaintenance(instance=A), False, False, False),
        ],
    )
    def test_only_signs_of_life_renew(self, command, lease, ttl, unhealthy):
        which = renews(command) or (lambda _timer: False)
        assert which(InstanceTimer(A, 0, "lease", 1.0)) is lease
        assert which(InstanceTimer(A, 0, "ttl", 1.0, "ttl")) is ttl
        assert which(InstanceTimer(A, 0, "unhealthy", 1.0)) is unhealthy

    @pytest.mark.parametrize(
        ("timer", "command"),
        [
            (InstanceTimer(A, 3, "lease", 1.0), ExpireLease(instance=A, incarnation=3)),
            (InstanceTimer(A, 3, "ttl", 1.0, "ttl"), ExpireTtl(instance=A, incarnation=3, check="ttl")),
            (InstanceTimer(A, 3, "unhealthy", 1.0), ExpireUnhealthy(instance=A, incarnation=3)),
        ],
    )
    def test_each_timer_has_its_command(self, timer, command):
        assert expire(timer) == command
