"""Which data nodes are there, and do they hold their leases? One row per node that is part of the cluster."""

from typing import Final, NamedTuple

from domain.message import Recorded
from domain.shards.node import DataNode, NodeEvent, NodeJoined, NodeRejoined, NodeRemoved, NodeSilenceAttested, joined
from domain.shards.node import evolve as evolve_node
from muster.wire.stream import CLUSTER
from projections.projection import Key, Projection


def key(recorded: Recorded) -> Key | None:
    """(node,)."""
    if recorded.stream != CLUSTER:
        return None
    event = recorded.event
    return (event.node,) if isinstance(event, NodeEvent) and not isinstance(event, NodeSilenceAttested) else None


def evolve(row: DataNode | None, recorded: Recorded) -> DataNode | None:
    """The node after the event."""
    event = recorded.event
    assert isinstance(event, NodeEvent), f"{recorded.event.type} is about no node"
    if isinstance(event, NodeJoined | NodeRejoined):
        return joined(row, event, recorded.version)
    if isinstance(event, NodeRemoved):
        return None
    assert row is not None, f"{event.type} of {event.node}, which never joined"
    return evolve_node(row, event, recorded.version)


class DataNodeColumns(NamedTuple):
    """What SQL users filter and join by."""

    address: str
    zone: str
    capacity: float
    lease_seconds: float
    alive: bool
    cordoned: bool
    draining: bool
    incarnation: int
    version: int


def columns(row: DataNode) -> DataNodeColumns:
    """The row for SQL users."""
    return DataNodeColumns(
        row.address,
        row.zone,
        row.capacity,
        row.lease_seconds,
        row.alive,
        row.cordoned,
        row.draining,
        row.incarnation,
        row.version,
    )


DATA_NODES: Final = Projection("data_nodes", 1, ("node",), DataNode, key, evolve, DataNodeColumns, columns)
