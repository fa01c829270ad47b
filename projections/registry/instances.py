"""Which instances are there, how are they, and since when? One row per instance, which is the instance as the domain knows
it; discoverable rows are the healthy ones.
"""

from typing import Any, Final, cast

from domain.message import Recorded
from domain.registry.instance import Instance, evolve
from domain.registry.service import DECIDER
from domain.registry.status import InstanceEvent
from muster.wire.registry.answers import suspicion
from muster.wire.stream import name_of
from projections.projection import Key, Projection


def key_of(recorded: Recorded) -> Key:
    """(service, instance)."""
    return name_of(recorded.stream), cast(InstanceEvent, recorded.event).instance


def item(instance: Instance) -> dict[str, Any]:
    """The instance as API users see it: one flat object, instants as datetime, check statuses by name."""
    spec, doubt = instance.spec, instance.suspect
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
        "heartbeats": spec.heartbeats,
        "health": instance.health,
        "cause": instance.cause,
        "health_since": instance.health_since,
        "check_status": instance.checks,
        "maintenance": instance.maintenance,
        "draining": instance.draining,
        "suspect": None if doubt is None else suspicion(doubt.clients, doubt.answering),
        "discoverable": instance.discoverable,
        "incarnation": instance.incarnation,
        "version": instance.version,
        "registered_at": instance.registered_at,
        "position": instance.position,
    }


INSTANCES: Final = Projection(
    name="instances",
    revision=5,
    row=Instance,
    key=("service", "instance"),
    aliases={"instance": "id"},
    events=frozenset(DECIDER.events),
    key_of=key_of,
    # The decider's own fold: an instance in a table cannot differ from the one that commands are decided on.
    fold=evolve,
    columns=(
        "spec.address",
        "spec.port",
        "spec.zone",
        "spec.weight",
        "spec.tags",
        "spec.metadata",
        "health",
        "cause",
        "health_since",
        # Marks, and a doubt, only show whether there are any: each of them itself is kept in the rest of the row.
        "maintenance",
        "draining",
        "suspect",
        "discoverable",
        "incarnation",
        "version",
        "registered_at",
        "position",
    ),
)
