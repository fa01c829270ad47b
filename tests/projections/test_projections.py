"""Each projection: given these events, then this row."""

from datetime import timedelta
from typing import Any

from domain.message import Event
from domain.registry.instance import (
    Instance,
    InstanceCheckChanged,
    InstanceChecksChanged,
    InstanceDeregistered,
    InstanceDrainEnded,
    InstanceDrainStarted,
    InstanceHealthChanged,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    InstanceZoneChanged,
    LeaseExpired,
)
from domain.registry.status import CheckStatus, Mark
from muster.wire.registry.check import TtlCheck
from projections.layout import Layout
from projections.projection import Projection
from projections.registry.history import HISTORY, HistoryRow, transitions_max
from projections.registry.instances import INSTANCES
from projections.registry.services import SERVICES, ServiceRow
from tests.sample import EVENTS, NOON, recorded, registered

TTL = TtlCheck(ttl_seconds=5.0, name="ttl")


def row(projection: Projection[Any], *events: Event) -> Any:
    """The row after the events, which all touch the same key; each at the position of its number."""
    found = None
    for position, event in enumerate(events):
        told = recorded(event, position, position)
        if projection.touched(told) is not None:
            found = projection.fold(found, told)
    return found


def flip(was: str, to: str, instance: str = "a") -> InstanceHealthChanged:
    return InstanceHealthChanged(instance=instance, was=was, to=to, cause="503", check="ttl", check_status=to)


def instance_row(*events: Event) -> Instance:
    found = row(INSTANCES, *events)
    assert isinstance(found, Instance)
    return found


def test_a_registration_makes_a_row() -> None:
    found = instance_row(registered(checks=(TTL,)))
    assert (found.service, found.id, found.health) == ("orders", "a", "unknown")
    assert (found.registered_at, found.health_since, found.checks["ttl"].since) == (NOON, NOON, NOON)
    assert not found.discoverable


def test_a_flip_names_its_check_and_cause() -> None:
    found = instance_row(registered(checks=(TTL,)), flip("unknown", "unhealthy"))
    assert (found.health, found.cause) == ("unhealthy", "503")
    assert found.checks == {"ttl": CheckStatus("unhealthy", "503", NOON)}
    assert found.position == 1


def test_maintenance_says_who_and_why_and_leaves_health_alone() -> None:
    found = instance_row(registered(), InstanceMaintenanceSet(instance="a"))
    assert found.maintenance == Mark("ann", "because", NOON)
    assert found.health == "healthy"
    assert not found.discoverable


def test_maintenance_and_draining_end() -> None:
    found = instance_row(
        registered(),
        InstanceMaintenanceSet(instance="a"),
        InstanceDrainStarted(instance="a"),
        InstanceMaintenanceCleared(instance="a"),
        InstanceDrainEnded(instance="a"),
    )
    assert (found.maintenance, found.draining, found.discoverable) == (None, None, True)


def test_changed_checks_keep_the_instants_of_those_that_stay() -> None:
    later = NOON + timedelta(minutes=1)
    was, now, new = (TtlCheck(ttl_seconds=seconds, name=name) for seconds, name in ((9.0, "o"), (8.0, "o"), (5.0, "n")))
    here = instance_row(registered(checks=(TTL, was)))
    changed = InstanceChecksChanged(instance="a", checks=(TTL, now, new))
    found = INSTANCES.fold(here, recorded(changed, 1, 1, at=later))
    assert found is not None
    assert {name: check.since for name, check in found.checks.items()} == {"ttl": NOON, "o": later, "n": later}


def test_a_check_changes_without_the_health() -> None:
    changed = InstanceCheckChanged(instance="a", check="ttl", was="unknown", to="healthy", cause="ok")
    found = instance_row(registered(checks=(TTL,)), changed)
    assert found.checks["ttl"] == CheckStatus("healthy", "ok", NOON)


def test_a_changed_zone_shows_in_the_columns() -> None:
    found = instance_row(registered(), InstanceZoneChanged(instance="a", zone="eu-1b"))
    assert Layout(INSTANCES).shown(("orders", "a"), found)["zone"] == "eu-1b"


def test_a_deregistered_instance_has_no_row() -> None:
    gone = InstanceDeregistered(instance="a", incarnation=0, cause="requested", health="healthy")
    assert row(INSTANCES, registered(), gone) is None


def test_a_service_counts_its_instances_by_health() -> None:
    events = (registered("a"), registered("b"), flip("healthy", "unhealthy", "b"), registered("c", checks=(TTL,)))
    assert row(SERVICES, *events) == ServiceRow("orders", healthy=1, unhealthy=1, unknown=1, position=3)


def test_a_service_without_instances_has_no_row() -> None:
    gone = InstanceDeregistered(instance="a", incarnation=0, cause="requested", health="healthy")
    assert row(SERVICES, registered(), gone) is None


def test_events_that_change_no_count_do_not_touch_the_service() -> None:
    assert SERVICES.touched(recorded(InstanceDrainStarted(instance="a"))) is None


def test_history_outlives_the_instance() -> None:
    expired = LeaseExpired(instance="a", incarnation=0, lease_seconds=5.0)
    gone = InstanceDeregistered(instance="a", incarnation=0, cause="lease_expired", health="healthy")
    assert row(HISTORY, registered(), expired, gone) == HistoryRow(3, (0, 1, 2))


def test_history_keeps_the_newest_positions_and_counts_all() -> None:
    flips = [flip("healthy", "unhealthy"), flip("unhealthy", "healthy")] * transitions_max
    found = row(HISTORY, registered(), *flips)
    assert found.events == 1 + len(flips)
    assert found.positions == tuple(range(1 + len(flips) - transitions_max, 1 + len(flips)))


def test_every_event_of_an_instance_is_in_its_history() -> None:
    assert all(HISTORY.touched(recorded(event)) == ("orders", "a") for event in EVENTS)
