"""One plausible message of every kind, in the order of the catalogue, and the stream that each is for."""

from typing import Final

from domain import saga
from domain.catalogue import DECIDERS
from domain.groups import group
from domain.message import Event
from domain.registry import service
from domain.shards import cluster, keyspace
from muster.wire.command import Command
from tests import sample, sample_groups, sample_sagas, sample_shards

EVENTS: Final[tuple[Event, ...]] = (
    *sample.EVENTS,
    *sample_shards.EVENTS,
    *sample_groups.EVENTS,
    *sample_sagas.EVENTS,
)
COMMANDS: Final[tuple[Command, ...]] = (
    *sample.COMMANDS,
    *sample_shards.COMMANDS,
    *sample_groups.COMMANDS,
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
    saga.DECIDER.stream: sample_shards.MOVE,
}


def stream_of(event: Event) -> str:
    """The stream that an event of this kind is for; that of a service for one of no catalogue."""
    known = (_STREAMS[decider.stream] for decider in DECIDERS if isinstance(event, decider.events))
    return next(known, _STREAMS["service"])
