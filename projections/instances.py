"""Which instances are there, how are they, and since when? One row per instance; discoverable rows are the healthy ones."""

from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, cast

from domain.check import Check, Health
from domain.instance import (
    CheckStatus,
    Instance,
    InstanceCheckChanged,
    InstanceChecksChanged,
    InstanceDrainEnded,
    InstanceDrainStarted,
    InstanceEvent,
    InstanceHealthChanged,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    Spec,
)
from domain.instance import evolve as evolve_instance
from domain.message import Recorded
from domain.value import value
from projections.projection import Key, Projection, Rest


@value
class Mark:
    """Why an instance is out of discovery, by whom and since when (UTC)."""

    actor: str
    reason: str | None
    since: datetime


@value
class InstanceRow:
    """An instance as readers see it. Instants are UTC; `position` is that of the last event."""

    service: str
    instance: Instance
    registered_at: datetime
    health_since: datetime
    checks_since: dict[str, datetime]
    maintenance: Mark | None
    draining: Mark | None
    position: int


def key(recorded: Recorded) -> Key | None:
    """(service, instance)."""
    if not recorded.stream.startswith("service/"):
        return None
    return recorded.stream[8:], cast(InstanceEvent, recorded.event).instance


def evolve(row: InstanceRow | None, recorded: Recorded) -> InstanceRow | None:
    """The row after the event."""
    event = cast(InstanceEvent, recorded.event)
    return shown(row, recorded, evolve_instance(row.instance if row else None, event, recorded.version))


def shown(row: InstanceRow | None, recorded: Recorded, after: Instance | None) -> InstanceRow | None:
    """As `evolve`, for who has the instance after the event already."""
    event, at, position = recorded.event, recorded.at, recorded.position
    if after is None:
        return None
    if row is None:
        since = dict.fromkeys(after.checks, at)
        return InstanceRow(recorded.stream[8:], after, at, at, since, None, None, position)
    if isinstance(event, InstanceHealthChanged):
        since = row.checks_since if event.check is None else {**row.checks_since, event.check: at}
        return InstanceRow(row.service, after, row.registered_at, at, since, row.maintenance, row.draining, position)
    row = replace(row, instance=after, position=position)
    mark = Mark(recorded.actor, recorded.reason, at)
    match event:
        case InstanceCheckChanged():
            return replace(row, checks_since={**row.checks_since, event.check: at})
        case InstanceChecksChanged():
            return replace(row, checks_since={name: row.checks_since.get(name, at) for name in after.checks})
        case InstanceMaintenanceSet():
            return replace(row, maintenance=mark)
        case InstanceMaintenanceCleared():
            return replace(row, maintenance=None)
        case InstanceDrainStarted():
            return replace(row, draining=mark)
        case InstanceDrainEnded():
            return replace(row, draining=None)
        case _:
            return row


def item(row: InstanceRow) -> dict[str, Any]:
    """The row as API users see it: one flat object, instants as datetime, check statuses by name."""
    instance, spec = row.instance, row.instance.spec
    return {
        "service": row.service,
        "instance": instance.id,
        "address": spec.address,
        "port": spec.port,
        "metadata": spec.metadata,
        "tags": spec.tags,
        "zone": spec.zone,
        "weight": spec.weight,
        "checks": spec.checks,
        "lease_seconds": spec.lease_seconds,
        "deregister_after_seconds": spec.deregister_after_seconds,
        "health": instance.health,
        "cause": instance.cause,
        "health_since": row.health_since,
        "check_status": {
            name: {"status": check.status, "cause": check.cause, "since": row.checks_since.get(name)}
            for name, check in instance.checks.items()
        },
        "maintenance": row.maintenance,
        "draining": row.draining,
        "discoverable": instance.discoverable,
        "incarnation": instance.incarnation,
        "version": instance.version,
        "registered_at": row.registered_at,
        "position": row.position,
    }


class InstanceColumns(NamedTuple):
    """What SQL users filter and join by."""

    address: str
    port: int
    zone: str
    weight: int
    tags: tuple[str, ...]
    metadata: dict[str, str]
    health: str
    cause: str | None
    health_since: datetime
    maintenance: bool
    draining: bool
    discoverable: bool
    incarnation: int
    version: int
    registered_at: datetime
    position: int


def columns(row: InstanceRow) -> InstanceColumns:
    """The row for SQL users."""
    instance, spec = row.instance, row.instance.spec
    return InstanceColumns(
        spec.address,
        spec.port,
        spec.zone,
        spec.weight,
        spec.tags,
        spec.metadata,
        instance.health,
        instance.cause,
        row.health_since,
        row.maintenance is not None,
        row.draining is not None,
        instance.discoverable,
        instance.incarnation,
        instance.version,
        row.registered_at,
        row.position,
    )


class InstanceRest(NamedTuple):
    """What a fold needs besides the columns."""

    checks: tuple[Check, ...]
    lease_seconds: float | None
    deregister_after_seconds: float | None
    check_status: dict[str, CheckStatus]
    checks_since: dict[str, datetime]
    maintenance: Mark | None
    draining: Mark | None


def rest(row: InstanceRow) -> InstanceRest:
    """The rest of the row."""
    instance, spec = row.instance, row.instance.spec
    return InstanceRest(
        spec.checks,
        spec.lease_seconds,
        spec.deregister_after_seconds,
        instance.checks,
        row.checks_since,
        row.maintenance,
        row.draining,
    )


def stored(key: Key, columns: InstanceColumns, rest: InstanceRest) -> InstanceRow:
    """The row of what a table holds of it."""
    service, name = key
    spec = Spec(
        address=columns.address,
        port=columns.port,
        metadata=columns.metadata,
        tags=columns.tags,
        zone=columns.zone,
        weight=columns.weight,
        checks=rest.checks,
        lease_seconds=rest.lease_seconds,
        deregister_after_seconds=rest.deregister_after_seconds,
    )
    instance = Instance(
        name,
        spec,
        columns.incarnation,
        columns.version,
        cast(Health, columns.health),
        columns.cause,
        rest.check_status,
        columns.maintenance,
        columns.draining,
    )
    return InstanceRow(
        service,
        instance,
        columns.registered_at,
        columns.health_since,
        rest.checks_since,
        rest.maintenance,
        rest.draining,
        columns.position,
    )


INSTANCES = Projection(
    "instances",
    2,
    ("service", "instance"),
    InstanceRow,
    key,
    evolve,
    InstanceColumns,
    columns,
    Rest(InstanceRest, rest, stored),
)
