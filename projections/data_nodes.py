"""Which data nodes are there, and do they hold their leases? One row per node that is part of the cluster."""

from typing import Final

from domain.message import Recorded
from domain.shards.cluster import DECIDER
from domain.shards.node import (
    DataNode,
    NodeChange,
    NodeEvent,
    NodeJoined,
    NodeRejoined,
    NodeRemoved,
    NodeSilenceAttested,
    changed,
    joined,
)
from projections.projection import Key, Projection


def key_of(recorded: Recorded) -> Key:
    """(node,)."""
    event = recorded.event
    assert isinstance(event, NodeEvent), f"{event.type} is about no node"
    return (event.node,)


def fold(
    row: DataNode | None, recorded: Recorded[NodeJoined | NodeRejoined | NodeRemoved | NodeChange]
) -> DataNode | None:
    """The node after the event."""
    event = recorded.event
    # The decider's own functions make the row, so a table cannot know another node than commands are decided on.
    if isinstance(event, NodeJoined | NodeRejoined):
        return joined(row, event, recorded.version)
    if isinstance(event, NodeRemoved):
        return None
    assert row is not None, f"{event.type} of {event.node}, which never joined"
    return changed(row, event, recorded.version)


DATA_NODES: Final = Projection(
    name="data_nodes",
    revision=1,
    row=DataNode,
    key=("node",),
    aliases={"node": "id"},
    # Silence is attested to a saga. It changes no row, and the node may have been removed by then.
    events=frozenset(
        kind for kind in DECIDER.events if issubclass(kind, NodeEvent) and kind is not NodeSilenceAttested
    ),
    key_of=key_of,
    fold=fold,
    columns=(
        "address",
        "zone",
        "capacity",
        "lease_seconds",
        "alive",
        "cordoned",
        "draining",
        "incarnation",
        "version",
    ),
    # Tables of revision 1 are like this; to do otherwise would be another revision.
    keeps_whole_row=True,
)
