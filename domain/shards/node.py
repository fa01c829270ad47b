"""Data nodes and slots: what the cluster can be asked, what happens to it, and what a node is. Rules: `domain.shards.cluster`."""

from dataclasses import replace
from typing import Annotated, assert_never

from pydantic import Field, StringConstraints

from domain.message import Event, event
from muster.wire.command import Command, Whole
from muster.wire.stream import Name
from muster.wire.value import value

Address = Annotated[str, StringConstraints(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,255}):[0-9]{1,5}$")]
Zone = Annotated[str, StringConstraints(max_length=128)]
Capacity = Annotated[float, Field(strict=True, gt=0, le=1e6)]
LeaseSeconds = Annotated[float, Field(strict=True, ge=0.5, le=3_600)]
Slots = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Saga = Annotated[str, StringConstraints(max_length=400)]


@value
class DataNode:
    """A data node. `alive`: its lease has not run out; `incarnation`: the version of the stream at which it joined;
    `process` and `store` tell this run of it, and its disk, from others.
    """

    id: str
    incarnation: int
    address: str
    zone: str
    capacity: float
    lease_seconds: float
    process: str
    store: str
    alive: bool = True
    cordoned: bool = False
    draining: bool = False
    version: int = 0

    @property
    def eligible(self) -> bool:
        """Whether new shards may come here."""
        return self.alive and not self.cordoned and not self.draining


class NodeCommand(Command):
    """What all commands to a data node carry."""

    node: Name


class JoinNode(NodeCommand):
    """Be a data node that listens at `address`. A new process on the same store joins anew: the store's lock says that its
    predecessor is dead. Another store is refused until the node has been removed: it would serve other data.
    """

    type = "muster.node.join.v1"
    address: Address
    zone: Zone = ""
    capacity: Capacity = 1.0
    lease_seconds: LeaseSeconds = 5.0
    process: Id
    store: Id


class RenewNode(NodeCommand):
    """Still here: the lease has its full length again, counted by the node from when it sent this."""

    type = "muster.node.renew.v1"
    incarnation: Whole


class RemoveNode(NodeCommand):
    """The node will not come back: its copies are given up."""

    type = "muster.node.remove.v1"


class CordonNode(NodeCommand):
    """No new shards here."""

    type = "muster.node.cordon.v1"


class UncordonNode(NodeCommand):
    """New shards may come again."""

    type = "muster.node.uncordon.v1"


class DrainNode(NodeCommand):
    """Move all shards away, and let none come."""

    type = "muster.node.drain.v1"


class UndrainNode(NodeCommand):
    """It stays after all. Moves under way go on."""

    type = "muster.node.undrain.v1"


class SetMoveLimits(Command):
    """How many moves a node may take part in, and the cluster have, at a time."""

    type = "muster.cluster.set_move_limits.v1"
    node_moves_max: Slots
    cluster_moves_max: Slots


class ReserveSlots(Command):
    """A move asks for its slots."""

    type = "muster.cluster.reserve_slots.v1"
    saga: Saga
    source: Name
    target: Name


class ReleaseSlots(Command):
    """A move gives its slots back, or its place in the queue."""

    type = "muster.cluster.release_slots.v1"
    saga: Saga


class AttestSilence(NodeCommand):
    """A move asks for an event as soon as the node's lease is over. While the lease runs, the command records nothing."""

    type = "muster.cluster.attest_silence.v1"
    saga: Saga


class ExpireNode(NodeCommand):
    """The node's lease has run out."""

    type = "muster.node.expire.v1"
    incarnation: Whole


@event
class NodeEvent(Event):
    """Something about one node."""

    node: Name


@event
class NodeJoined(NodeEvent):
    """A data node is here."""

    type = "muster.node.joined.v1"
    address: str
    zone: str
    capacity: float
    lease_seconds: float
    process: str
    store: str


@event
class NodeRejoined(NodeEvent):
    """Another process of the node is here; what the one before held of the lease is over."""

    type = "muster.node.rejoined.v1"
    address: str
    zone: str
    capacity: float
    lease_seconds: float
    process: str
    store: str


@event
class NodeLost(NodeEvent):
    """The node's lease has run out: it acknowledges nothing until it has renewed it."""

    type = "muster.node.lost.v1"
    incarnation: int
    lease_seconds: float


@event
class NodeReturned(NodeEvent):
    """The node has renewed a lease that had run out."""

    type = "muster.node.returned.v1"


@event
class NodeRemoved(NodeEvent):
    """The node is gone for good."""

    type = "muster.node.removed.v1"


@event
class NodeCordonSet(NodeEvent):
    """No new shards come to the node."""

    type = "muster.node.cordon_set.v1"


@event
class NodeCordonCleared(NodeEvent):
    """New shards may come to the node again."""

    type = "muster.node.cordon_cleared.v1"


@event
class NodeDrainStarted(NodeEvent):
    """The node's shards are to leave it."""

    type = "muster.node.drain_started.v1"


@event
class NodeDrainEnded(NodeEvent):
    """The node keeps what it has."""

    type = "muster.node.drain_ended.v1"


@event
class MoveLimitsChanged(Event):
    """Other limits hold for concurrent moves."""

    type = "muster.cluster.move_limits_changed.v1"
    node_moves_max: int
    cluster_moves_max: int


@event
class SlotsQueued(Event):
    """The move waits for slots."""

    type = "muster.cluster.slots_queued.v1"
    saga: Saga
    source: Name
    target: Name


@event
class SlotsGranted(Event):
    """The move holds its slots."""

    type = "muster.cluster.slots_granted.v1"
    saga: Saga
    source: Name
    target: Name


@event
class SlotsReleased(Event):
    """The move holds no slots and waits for none."""

    type = "muster.cluster.slots_released.v1"
    saga: Saga


@event
class NodeSilenceAttested(NodeEvent):
    """Behind this place of the log the node acknowledges nothing that it has not first compared with the shard map."""

    type = "muster.cluster.node_silence_attested.v1"
    saga: Saga


PublicCommand = JoinNode | RenewNode | RemoveNode | CordonNode | UncordonNode | DrainNode | UndrainNode | SetMoveLimits
"""What anyone may ask of the cluster."""

InternalCommand = ReserveSlots | ReleaseSlots | AttestSilence | ExpireNode
"""What only controllers give."""

ClusterCommand = PublicCommand | InternalCommand

NodeChange = NodeLost | NodeReturned | NodeCordonSet | NodeCordonCleared | NodeDrainStarted | NodeDrainEnded
"""What changes a node that stays."""

SlotsEvent = MoveLimitsChanged | SlotsQueued | SlotsGranted | SlotsReleased
"""What happens to the slots of moves."""

ClusterEvent = (
    NodeJoined
    | NodeRejoined
    | NodeLost
    | NodeReturned
    | NodeRemoved
    | NodeCordonSet
    | NodeCordonCleared
    | NodeDrainStarted
    | NodeDrainEnded
    | MoveLimitsChanged
    | SlotsQueued
    | SlotsGranted
    | SlotsReleased
    | NodeSilenceAttested
)
"""All that can happen to the cluster."""


def changed(node: DataNode, event: NodeChange, version: int) -> DataNode:
    """The node after the event; `version` is the event's in its stream."""
    match event:
        case NodeLost():
            assert node.alive, f"{node.id} was lost twice"
            return replace(node, alive=False, version=version)
        case NodeReturned():
            return replace(node, alive=True, version=version)
        case NodeCordonSet():
            return replace(node, cordoned=True, version=version)
        case NodeCordonCleared():
            return replace(node, cordoned=False, version=version)
        case NodeDrainStarted():
            return replace(node, draining=True, version=version)
        case NodeDrainEnded():
            return replace(node, draining=False, version=version)
        case _:
            assert_never(event)


def joined(known: DataNode | None, event: NodeJoined | NodeRejoined, version: int) -> DataNode:
    """The node that has joined, in place of the one that was known; `version` is the event's in its stream."""
    assert (known is None) == isinstance(event, NodeJoined), f"{event.type} of {event.node} at the wrong time"
    fresh = DataNode(
        event.node,
        version,
        event.address,
        event.zone,
        event.capacity,
        event.lease_seconds,
        event.process,
        event.store,
        version=version,
    )
    # A restart does not end what an operator has asked for: cordon and drain outlive the process.
    return fresh if known is None else replace(fresh, cordoned=known.cordoned, draining=known.draining)
