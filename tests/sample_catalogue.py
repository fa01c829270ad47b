"""One plausible message of every kind, in the order of the catalogue, and the stream that each is for."""

from typing import Final

from domain import saga
from domain.catalogue import DECIDERS
from domain.groups import group
from domain.message import Event
from domain.registry import service, traffic
from domain.registry.traffic import (
    SetTraffic,
    TrafficEjectionSet,
    TrafficLimitSet,
    TrafficPolicySet,
    TrafficReportingSet,
    TrafficRetryShareSet,
    TrafficSlowStartSet,
)
from domain.shards import cluster, keyspace
from muster.wire.command import Command
from tests import sample, sample_groups, sample_sagas, sample_shards

_OF_TRAFFIC: Final = (
    TrafficPolicySet(policy="round_robin"),
    TrafficSlowStartSet(slow_start_seconds=30.0),
    TrafficEjectionSet(eject_after=3, eject_seconds=None),
    TrafficLimitSet(limit=True, in_flight_max=500),
    TrafficRetryShareSet(retry_share=None),
    TrafficReportingSet(report_seconds=0.5),
)
EVENTS: Final[tuple[Event, ...]] = (
    *sample.EVENTS,
    *sample_shards.EVENTS,
    *sample_groups.EVENTS,
    *_OF_TRAFFIC,
    *sample_sagas.EVENTS,
)
COMMANDS: Final[tuple[Command, ...]] = (
    *sample.COMMANDS,
    *sample_shards.COMMANDS,
    *sample_groups.COMMANDS,
    SetTraffic(policy="random", eject_seconds=2.5, limit=False, default=("retry_share",)),
    *sample_sagas.COMMANDS,
)
"""Those of services with what only the writer gives; of the others what anyone may publish."""
INTERNAL_COMMANDS: Final[tuple[Command, ...]] = (*sample_shards.INTERNAL_COMMANDS, *sample_groups.INTERNAL_COMMANDS)
"""Those that one controller may give to another."""

_STREAMS: Final = {
    service.DECIDER.stream: "service/orders",
    keyspace.DECIDER.stream: "keyspace/users",
    cluster.DECIDER.stream: "cluster",
    group.DECIDER.stream: sample_groups.GROUP,
    traffic.DECIDER.stream: "traffic/orders",
    saga.DECIDER.stream: sample_shards.MOVE,
}


def stream_of(event: Event) -> str:
    """The stream that an event of this kind is for; that of a service for one of no catalogue."""
    known = (_STREAMS[decider.stream] for decider in DECIDERS if isinstance(event, decider.events))
    return next(known, _STREAMS["service"])
