"""Which instances are there, how are they, and since when? One row per instance, which is the instance as the domain knows
it; discoverable rows are the healthy ones.
"""

from datetime import datetime
from typing import Any, NamedTuple, cast

from domain.message import Recorded
from domain.registry.instance import CheckStatus, Instance, InstanceEvent, Mark, evolve
from muster.wire.check import Check, Health
from muster.wire.spec import Spec
from muster.wire.stream import SERVICE, kind_of, name_of
from projections.projection import Key, Projection, Rest


def key(recorded: Recorded) -> Key | None:
    """(service, instance)."""
    if kind_of(recorded.stream) != SERVICE:
        return None
    return name_of(recorded.stream), cast(InstanceEvent, recorded.event).instance


def item(instance: Instance) -> dict[str, Any]:
    """The instance as API users see it: one flat object, instants as datetime, check statuses by name."""
    spec = instance.spec
    return {
        "service": instance.service,
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
        "health_since": instance.health_since,
        "check_status": instance.checks,
        "maintenance": instance.maintenance,
        "draining": instance.draining,
        "discoverable": instance.discoverable,
        "incarnation": instance.incarnation,
        "version": instance.version,
        "registered_at": instance.registered_at,
        "position": instance.position,
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


def columns(instance: Instance) -> InstanceColumns:
    """The row for SQL users."""
    spec = instance.spec
    return InstanceColumns(
        spec.address,
        spec.port,
        spec.zone,
        spec.weight,
        spec.tags,
        spec.metadata,
        instance.health,
        instance.cause,
        instance.health_since,
        instance.maintenance is not None,
        instance.draining is not None,
        instance.discoverable,
        instance.incarnation,
        instance.version,
        instance.registered_at,
        instance.position,
    )


class InstanceRest(NamedTuple):
    """What a fold needs besides the columns."""

    checks: tuple[Check, ...]
    lease_seconds: float | None
    deregister_after_seconds: float | None
    check_status: dict[str, CheckStatus]
    maintenance: Mark | None
    draining: Mark | None


def rest(instance: Instance) -> InstanceRest:
    """The rest of the row."""
    spec = instance.spec
    return InstanceRest(
        spec.checks,
        spec.lease_seconds,
        spec.deregister_after_seconds,
        instance.checks,
        instance.maintenance,
        instance.draining,
    )


def stored(key: Key, columns: InstanceColumns, rest: InstanceRest) -> Instance:
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
    return Instance(
        name,
        service,
        spec,
        columns.incarnation,
        columns.version,
        cast(Health, columns.health),
        columns.cause,
        columns.health_since,
        rest.check_status,
        columns.registered_at,
        columns.position,
        rest.maintenance,
        rest.draining,
    )


INSTANCES = Projection(
    "instances",
    3,
    ("service", "instance"),
    Instance,
    key,
    evolve,
    InstanceColumns,
    columns,
    Rest(InstanceRest, rest, stored),
)
