"""An instance: the limits of what may be registered, and folds that refuse history which cannot be."""

from dataclasses import fields, replace

import pytest

from domain.catalogue import command_from
from domain.message import event
from domain.registry.instance import (
    Instance,
    InstanceCheckChanged,
    InstanceDrainEnded,
    InstanceDrainStarted,
    InstanceHealthChanged,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    InstanceRegistered,
    evolve,
)
from domain.registry.service import DECIDER
from domain.registry.status import Doubt, InstanceEvent
from muster.wire.error import InvalidInstance
from muster.wire.registry.spec import Spec
from tests.sample import EVENTS as SAMPLES
from tests.sample import FULL, NOON, recorded, registered

REGISTER = "muster.instance.register.v1"
HERE = {"address": "10.0.0.7", "port": 8080}
TTL = {"kind": "ttl", "ttl_seconds": 5}


def register(**changes):
    return command_from(REGISTER, {"instance": "a", "spec": {**HERE, **changes}}).spec


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("port", 0, "port"),
        ("port", 65_536, "port"),
        ("port", "eighty", "port"),
        ("port", None, "port"),
        ("address", "", "address"),
        ("address", "a" * 256, "address"),
        ("address", "host name", "address"),
        ("address", "http://host", "address"),
        ("metadata", {"": "v"}, "metadata..[key]"),
        ("metadata", {"k" * 129: "v"}, f"metadata.{'k' * 129}.[key]"),
        ("metadata", {"k": "v" * 4097}, "metadata.k"),
        ("metadata", {str(number): "" for number in range(65)}, "metadata"),
        ("metadata", {"k": 1}, "metadata.k"),
        ("tags", [""], "tags.0"),
        ("tags", ["t" * 129], "tags.0"),
        ("tags", [str(number) for number in range(65)], "tags"),
        ("zone", "z" * 129, "zone"),
        ("weight", -1, "weight"),
        ("weight", 65_536, "weight"),
        ("lease_seconds", 0.09, "lease_seconds"),
        ("lease_seconds", 31_536_001, "lease_seconds"),
        ("lease_seconds", float("nan"), "lease_seconds"),
        ("deregister_after_seconds", 0, "deregister_after_seconds"),
        ("checks", [TTL] * 17, "checks"),
        ("checks", [{**TTL, "name": "x"}, {**TTL, "name": "x"}], "checks"),
        ("checks", [{**TTL, "name": "reported"}], "checks"),
        ("checks", [TTL, {"kind": "http", "url": "ftp://host"}], "checks.1.url"),
        ("checks", [{"kind": "tcp", "host": "host", "port": 0}], "checks.0.port"),
        ("checks", [{"kind": "icmp"}], "checks.0"),
        ("nonsense", 1, "nonsense"),
    ],
)
def test_an_invalid_registration_is_refused_with_its_field(field, value, named):
    with pytest.raises(InvalidInstance) as refused:
        register(**{field: value})
    assert refused.value.context == {"field": named}
    assert refused.value.detail.startswith(named)


@pytest.mark.parametrize("field", ["address", "port"])
def test_a_missing_field_is_refused_by_name(field):
    with pytest.raises(InvalidInstance) as refused:
        command_from(REGISTER, {"instance": "a", "spec": {key: value for key, value in HERE.items() if key != field}})
    assert refused.value.context == {"field": field}


@pytest.mark.parametrize(
    "limits",
    [
        {"port": 1},
        {"port": 65_535},
        {"address": "::1"},
        {"address": "fe80::1%eth0"},
        {"address": "a" * 255},
        {"weight": 0},
        {"weight": 65_535},
        {"lease_seconds": 0.1, "deregister_after_seconds": 31_536_000},
        {"metadata": {str(number): "v" * 4096 for number in range(64)}},
        {"tags": [str(number) for number in range(64)]},
        {"checks": [TTL] * 16},
    ],
    ids=str,
)
def test_a_registration_at_its_limits_is_valid(limits):
    assert register(**limits)


def test_a_tag_said_twice_is_one_tag():
    assert register(tags=["blue", "red", "blue"]).tags == ("blue", "red")


def test_nothing_but_address_and_port_is_needed():
    assert register() == Spec(address="10.0.0.7", port=8080)


def test_every_field_of_a_spec_has_an_event_that_changes_it():
    changed = {field.name for event in DECIDER.events for field in fields(event)}
    assert {field.name for field in fields(Spec)} <= changed


NEEDS_NO_INSTANCE = InstanceRegistered | InstanceMaintenanceCleared | InstanceDrainEnded


@pytest.mark.parametrize("event", [event for event in SAMPLES if not isinstance(event, NEEDS_NO_INSTANCE)], ids=repr)
def test_history_of_an_instance_that_is_not_here_cannot_be(event):
    with pytest.raises(AssertionError, match="not registered"):
        evolve(None, recorded(event, 3, 3))


def test_nobody_is_registered_twice():
    here = evolve(None, recorded(registered(), 0, 0))
    with pytest.raises(AssertionError, match="registered twice"):
        evolve(here, recorded(registered(), 1, 1))


def test_a_gap_in_the_health_cannot_be():
    here = evolve(None, recorded(registered(), 0, 0))
    with pytest.raises(AssertionError, match="health gap"):
        evolve(here, recorded(InstanceHealthChanged(instance="a", was="unknown", to="unhealthy"), 1, 1))


def test_an_event_without_a_fold_cannot_be():
    @event
    class InstanceRenamed(InstanceEvent):
        type = "muster.instance.renamed.v1"

    with pytest.raises(AssertionError, match="InstanceRenamed"):
        evolve(evolve(None, recorded(registered(), 0, 0)), recorded(InstanceRenamed(instance="a"), 1, 1))


@pytest.mark.parametrize("event", SAMPLES[1:-1], ids=lambda event: type(event).__name__)
def test_every_event_moves_the_version_and_the_position(event):
    # In doubt, because what clients say is recorded of those alone.
    here = replace(evolve(None, recorded(SAMPLES[0], 0, 0)), suspect=Doubt(NOON, 30.0))
    after = evolve(here, recorded(event, 99, 17))
    assert (after.version, after.position) == (17, 99)


def test_a_changed_check_keeps_its_cause():
    here = evolve(None, recorded(SAMPLES[0], 0, 0))
    told = InstanceCheckChanged(instance="a", check="port", was="unknown", to="healthy", cause="connected")
    assert evolve(here, recorded(told, 1, 1)).checks["port"].cause == "connected"


@pytest.mark.parametrize(
    ("events", "discoverable"),
    [
        ([], True),
        ([InstanceMaintenanceSet], False),
        ([InstanceDrainStarted], False),
        ([InstanceMaintenanceSet, InstanceDrainStarted, InstanceMaintenanceCleared], False),
        ([InstanceMaintenanceSet, InstanceDrainStarted, InstanceMaintenanceCleared, InstanceDrainEnded], True),
    ],
)
def test_maintenance_and_draining_each_take_it_out_of_discovery(events, discoverable):
    instance: Instance | None = evolve(None, recorded(registered(), 0, 0))
    for version, kind in enumerate(events, start=1):
        instance = evolve(instance, recorded(kind(instance="a"), version, version))
    assert instance.discoverable is discoverable
    assert instance.health == "healthy"


@pytest.mark.parametrize(("health", "discoverable"), [("healthy", True), ("unknown", False), ("unhealthy", False)])
def test_only_the_healthy_are_discoverable(health, discoverable):
    event = InstanceRegistered(instance="a", incarnation=0, spec=FULL, health=health)
    assert evolve(None, recorded(event, 0, 0)).discoverable is discoverable
