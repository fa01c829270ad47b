"""What becomes of the statuses of checks when the checks change."""

from dataclasses import replace

import pytest

from domain.registry import service
from domain.registry.instance import InstanceCheckChanged, InstanceChecksChanged, InstanceHealthChanged
from domain.registry.service import RegisterInstance
from tests.given import Given, given
from tests.sample import HTTP, TCP, TTL, registered, spec

A = "a"


def health(was, to, cause=None, check=None, status=None):
    return InstanceHealthChanged(instance=A, was=was, to=to, cause=cause, check=check, check_status=status)


class TestSettings:
    @pytest.mark.parametrize(
        ("check", "changes"),
        [
            (HTTP, {"interval_seconds": 5.0}),
            (HTTP, {"timeout_seconds": 1.0}),
            (HTTP, {"healthy_after": 3, "unhealthy_after": 5}),
            (TCP, {"interval_seconds": 5.0, "timeout_seconds": 4.0, "unhealthy_after": 1}),
            (TTL, {"ttl_seconds": 50.0}),
        ],
        ids=["interval", "timeout", "thresholds", "tcp", "ttl"],
    )
    def test_a_check_whose_settings_change_keeps_what_it_has_found(self, check, changes):
        before = given(registered(checks=(check,)), health("unknown", "healthy", "fine", check.name, "healthy")).state
        changed = replace(check, **changes)
        after = (
            Given(before, service)
            .when(RegisterInstance(instance=A, spec=spec(checks=(changed,))))
            .then(InstanceChecksChanged(instance=A, checks=(changed,), kept=(check.name,)))
        )
        assert after.instances[A].checks == before.instances[A].checks
        assert after.instances[A].spec.checks == (changed,)
        assert after.instances[A].health_since == before.instances[A].health_since

    @pytest.mark.parametrize(
        ("check", "changes"),
        [
            (HTTP, {"url": "http://10.0.0.7:8080/ready", "interval_seconds": 5.0}),
            (HTTP, {"method": "HEAD"}),
            (HTTP, {"headers": {}}),
            (HTTP, {"expected_status": None}),
            (HTTP, {"body_match": "ready"}),
            (TCP, {"host": "10.0.0.8"}),
            (TCP, {"port": 81}),
        ],
        ids=["url", "method", "headers", "status", "body", "host", "port"],
    )
    def test_a_check_that_asks_something_else_starts_as_unknown(self, check, changes):
        other = replace(check, **changes)
        given(registered(checks=(check,)), health("unknown", "healthy", "fine", check.name, "healthy")).when(
            RegisterInstance(instance=A, spec=spec(checks=(other,)))
        ).then(InstanceChecksChanged(instance=A, checks=(other,)), health("healthy", "unknown", "the checks changed"))

    def test_a_check_of_another_kind_under_the_same_name_starts_as_unknown(self):
        other = replace(TCP, name=TTL.name)
        given(registered(checks=(TTL,)), health("unknown", "healthy", "heartbeat", "ttl", "healthy")).when(
            RegisterInstance(instance=A, spec=spec(checks=(other,)))
        ).then(InstanceChecksChanged(instance=A, checks=(other,)), health("healthy", "unknown", "the checks changed"))

    def test_of_several_only_those_are_kept_that_ask_what_they_asked(self):
        slower, elsewhere = replace(HTTP, interval_seconds=60.0), replace(TCP, port=81)
        after = (
            given(
                registered(checks=(HTTP, TCP)),
                InstanceCheckChanged(instance=A, check="port", was="unknown", to="healthy"),
                health("unknown", "unhealthy", "503", "ready", "unhealthy"),
            )
            .when(RegisterInstance(instance=A, spec=spec(checks=(elsewhere, slower))))
            .then(InstanceChecksChanged(instance=A, checks=(elsewhere, slower), kept=("ready",)))
        )
        assert {name: told.status for name, told in after.instances[A].checks.items()} == {
            "ready": "unhealthy",
            "port": "unknown",
        }

    def test_an_event_of_old_that_names_none_means_what_it_meant(self):
        """Before `kept` there was no other way to write a change of settings, and it made the check unknown."""
        slower = replace(TCP, interval_seconds=60.0)
        after = given(
            registered(checks=(TCP,)),
            health("unknown", "healthy", "connected", "port", "healthy"),
            InstanceChecksChanged(instance=A, checks=(slower,)),
            health("healthy", "unknown", "the checks changed"),
        ).state
        assert after.instances[A].checks["port"].status == after.instances[A].health == "unknown"


class TestCause:
    """Why the health is what it is, when the check that explained it is there no more, or begins anew."""

    BOTH_ILL = (
        registered(checks=(HTTP, TCP)),
        health("unknown", "unhealthy", "503", "ready", "unhealthy"),
        InstanceCheckChanged(instance=A, check="port", was="unknown", to="unhealthy", cause="refused"),
    )

    @pytest.mark.parametrize("checks", [(TCP,), (replace(HTTP, url="http://10.0.0.9/"), TCP)], ids=["gone", "anew"])
    def test_it_is_that_of_another_check_with_this_health(self, checks):
        before = given(*self.BOTH_ILL).state
        assert before.instances[A].cause == "503"
        after = (
            Given(before, service)
            .when(RegisterInstance(instance=A, spec=spec(checks=checks)))
            .then(InstanceChecksChanged(instance=A, checks=checks, recaused=True))
        )
        assert (after.instances[A].health, after.instances[A].cause) == ("unhealthy", "refused")

    def test_it_stays_when_the_check_that_explains_it_stays(self):
        after = (
            given(*self.BOTH_ILL)
            .when(RegisterInstance(instance=A, spec=spec(checks=(HTTP,))))
            .then(InstanceChecksChanged(instance=A, checks=(HTTP,)))
        )
        assert after.instances[A].cause == "503"

    def test_without_any_check_there_is_none(self):
        after = (
            given(registered(checks=(TCP,)), health("unknown", "healthy", "connected", "port", "healthy"))
            .when(RegisterInstance(instance=A, spec=spec(checks=())))
            .then(InstanceChecksChanged(instance=A, checks=(), recaused=True))
        )
        assert (after.instances[A].health, after.instances[A].cause) == ("healthy", None)

    def test_an_event_of_old_leaves_it_as_it_was(self):
        after = given(*self.BOTH_ILL, InstanceChecksChanged(instance=A, checks=(TCP,))).state
        assert after.instances[A].cause == "503"
