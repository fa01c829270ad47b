"""The aggregate of data nodes, and of the slots that limit concurrent moves; the one stream `cluster`.

Commands   JoinNode · RenewNode · RemoveNode · CordonNode · UncordonNode · DrainNode · UndrainNode · SetMoveLimits;
           from inside: ReserveSlots · ReleaseSlots · AttestSilence · ExpireNode
Events     NodeJoined · NodeRejoined · NodeLost · NodeReturned · NodeRemoved · NodeCordonSet · NodeCordonCleared ·
           NodeDrainStarted · NodeDrainEnded · MoveLimitsChanged · SlotsQueued · SlotsGranted · SlotsReleased ·
           NodeSilenceAttested
State      `Cluster`: the nodes by id, the moves that hold or wait for slots, the attested silences

A node joins with an incarnation of its own and holds a lease, which it renews; a renewal is no event, losing the lease is.
A move takes a slot of its source and one of its target, and one of the cluster's; those that wait keep their order.
"""

from dataclasses import replace
from typing import Annotated, Final, Literal, NamedTuple, assert_never, get_args

from immutables import Map

from domain.decider import AsPairs, Decider, Parts, Renewed
from domain.message import Recorded
from domain.shards.node import (
    AttestSilence,
    ClusterCommand,
    ClusterEvent,
    CordonNode,
    DataNode,
    DrainNode,
    ExpireNode,
    InternalCommand,
    JoinNode,
    MoveLimitsChanged,
    NodeCordonCleared,
    NodeCordonSet,
    NodeDrainEnded,
    NodeDrainStarted,
    NodeJoined,
    NodeLost,
    NodeRejoined,
    NodeRemoved,
    NodeReturned,
    NodeSilenceAttested,
    PublicCommand,
    ReleaseSlots,
    RemoveNode,
    RenewNode,
    ReserveSlots,
    SetMoveLimits,
    SlotsEvent,
    SlotsGranted,
    SlotsQueued,
    SlotsReleased,
    UncordonNode,
    UndrainNode,
    changed,
    joined,
)
from muster.wire.error import NodeCordoned, NodeNotFound, NodeTaken, StaleIncarnation
from muster.wire.stream import CLUSTER
from muster.wire.value import value


@value
class Reservation:
    """A move's slots: one on its source, one on its target."""

    source: str
    target: str

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes with a slot each."""
        return frozenset((self.source, self.target))


@value
class Cluster:
    """All nodes, and those that were removed; the moves that hold slots, and those that wait for some in the order of their
    requests (`queue`); by move the node whose silence was attested to it.
    """

    version: int
    nodes: Annotated[Map[str, DataNode], AsPairs]
    held: Annotated[Map[str, Reservation], AsPairs]
    waiting: Annotated[Map[str, Reservation], AsPairs]
    queue: tuple[str, ...]
    silences: Annotated[Map[str, str], AsPairs]
    removed: frozenset[str] = frozenset()
    node_moves_max: int = 1
    cluster_moves_max: int = 4


INITIAL: Final = Cluster(0, Map(), Map(), Map(), (), Map())


def decide(command: ClusterCommand, state: Cluster) -> list[ClusterEvent]:
    """What the command makes happen. Raises NodeNotFound, NodeTaken, NodeCordoned or StaleIncarnation; empty: already so."""
    match command:
        case JoinNode():
            return _join(command, state)
        case RenewNode():
            return _renew(command, node_of(state, command.node))
        case RemoveNode():
            return [NodeRemoved(node=command.node)] if command.node in state.nodes else []
        case CordonNode() | UncordonNode() | DrainNode() | UndrainNode():
            return _marked(command, node_of(state, command.node))
        case SetMoveLimits():
            return _limit(command, state)
        case ReserveSlots():
            return _reserve(command, state)
        case ReleaseSlots():
            if command.saga not in state.held and command.saga not in state.waiting:
                return []
            # What is freed is granted in the same batch. Were it not, the slot would stay free, with moves waiting for
            # it, until another command about slots came.
            released = SlotsReleased(saga=command.saga)
            return [released, *_granted(_evolved(state, released))]
        case AttestSilence():
            node = state.nodes.get(command.node)
            known = state.silences.get(command.saga) == command.node
            # A move that holds no slots any more asks too late: an attestation recorded now would never be removed.
            if known or command.saga not in state.held or (node is not None and node.alive):
                return []
            return [NodeSilenceAttested(node=command.node, saga=command.saga)]
        case ExpireNode():
            node = state.nodes.get(command.node)
            # The lease of an earlier incarnation says nothing about this one, which has a lease of its own.
            if node is None or node.incarnation != command.incarnation or not node.alive:
                return []
            return [NodeLost(node=node.id, incarnation=node.incarnation, lease_seconds=node.lease_seconds)]
        case _:
            assert_never(command)


def _renew(command: RenewNode, node: DataNode) -> list[ClusterEvent]:
    # Of two processes with one id the one that joined first is refused here. Otherwise both would trust the lease.
    check_incarnation(node, command.incarnation)
    # While the lease holds the log has nothing to say: the command itself renews the writer's timer (`renews`).
    return [] if node.alive else [NodeReturned(node=node.id)]


def check_incarnation(node: DataNode, incarnation: int) -> None:
    """Raises StaleIncarnation when it is not the node's: another process has taken its place."""
    if incarnation != node.incarnation:
        raise StaleIncarnation(
            f"{node.id} is at incarnation {node.incarnation}, not {incarnation}: another process has joined",
            incarnation=node.incarnation,
        )


def _marked(command: CordonNode | UncordonNode | DrainNode | UndrainNode, node: DataNode) -> list[ClusterEvent]:
    match command:
        case CordonNode():
            return [] if node.cordoned else [NodeCordonSet(node=node.id)]
        case UncordonNode():
            return [NodeCordonCleared(node=node.id)] if node.cordoned else []
        case DrainNode():
            return [] if node.draining else [NodeDrainStarted(node=node.id)]
        case UndrainNode():
            return [NodeDrainEnded(node=node.id)] if node.draining else []
        case _:
            assert_never(command)


def _limit(command: SetMoveLimits, state: Cluster) -> list[ClusterEvent]:
    if (command.node_moves_max, command.cluster_moves_max) == (state.node_moves_max, state.cluster_moves_max):
        return []
    limited = MoveLimitsChanged(node_moves_max=command.node_moves_max, cluster_moves_max=command.cluster_moves_max)
    return [limited, *_granted(_evolved(state, limited))]


def node_of(state: Cluster, node: str) -> DataNode:
    """The node. Raises NodeNotFound."""
    found = state.nodes.get(node)
    if found is None:
        raise NodeNotFound(f"the cluster has no data node {node}", node=node)
    return found


def _join(command: JoinNode, state: Cluster) -> list[ClusterEvent]:
    facts = command.model_dump()
    known = state.nodes.get(command.node)
    if known is None:
        return [NodeJoined(**facts)]
    # A node is identified by its disk, which holds what it has acknowledged. With another disk the same id would promise data
    # that it does not hold.
    if known.store != command.store:
        raise NodeTaken(
            f"data node {known.id} is known with another store ({known.store}); remove it first, or choose another id",
            node=known.id,
        )
    same = (known.process, known.address) == (command.process, command.address)
    return [] if known.alive and same else [NodeRejoined(**facts)]


def _reserve(command: ReserveSlots, state: Cluster) -> list[ClusterEvent]:
    # Before the checks: a move that has its slots keeps them, even if its target was cordoned meanwhile.
    if command.saga in state.held or command.saga in state.waiting:
        return []
    target = node_of(state, command.target)
    # The source only has to be known. It may be draining: that may be the reason for the move.
    node_of(state, command.source)
    if target.cordoned or target.draining:
        what = "cordoned" if target.cordoned else "being drained"
        raise NodeCordoned(f"data node {target.id} is {what}: it takes no new shards", node=target.id)
    queued = SlotsQueued(saga=command.saga, source=command.source, target=command.target)
    return [queued, *_granted(_evolved(state, queued))]


def _granted(state: Cluster) -> list[ClusterEvent]:
    """Grants for those in the queue that fit now. One that waits for a busy node holds up only those that need it too."""
    used: dict[str, int] = {}
    for reservation in state.held.values():
        for node in reservation.nodes:
            used[node] = used.get(node, 0) + 1
    held, events = len(state.held), list[ClusterEvent]()
    for saga in state.queue:
        if held >= state.cluster_moves_max:
            break
        wanted = state.waiting[saga]
        fits = all(used.get(node, 0) < state.node_moves_max for node in wanted.nodes)
        # Counted although it may not fit: a later move that needs the same node must not overtake this one.
        for node in wanted.nodes:
            used[node] = used.get(node, 0) + 1
        if fits:
            held += 1
            events.append(SlotsGranted(saga=saga, source=wanted.source, target=wanted.target))
    return events


def evolve(state: Cluster, recorded: Recorded[ClusterEvent]) -> Cluster:
    """The cluster after the event."""
    return _evolved(state, recorded.event)


def _evolved(state: Cluster, event: ClusterEvent) -> Cluster:
    version = state.version + 1
    match event:
        case NodeJoined() | NodeRejoined():
            nodes = state.nodes.set(event.node, joined(state.nodes.get(event.node), event, state.version))
            return replace(state, version=version, nodes=nodes, removed=state.removed - {event.node})
        case NodeRemoved():
            assert event.node in state.nodes, f"{event.node} was removed, but never joined"
            nodes = state.nodes.delete(event.node)
            # Remembered, because moves give up on a node that was removed, but not on one that has yet to join.
            return replace(state, version=version, nodes=nodes, removed=state.removed | {event.node})
        case NodeSilenceAttested():
            return replace(state, version=version, silences=state.silences.set(event.saga, event.node))
        case (
            NodeLost() | NodeReturned() | NodeCordonSet() | NodeCordonCleared() | NodeDrainStarted() | NodeDrainEnded()
        ):
            node = state.nodes.get(event.node)
            assert node is not None, f"{event.type} of {event.node}, which is not here"
            return replace(state, version=version, nodes=state.nodes.set(node.id, changed(node, event, state.version)))
        case MoveLimitsChanged() | SlotsQueued() | SlotsGranted() | SlotsReleased():
            return _slots(replace(state, version=version), event)
        case _:
            assert_never(event)


def _slots(state: Cluster, event: SlotsEvent) -> Cluster:
    match event:
        case MoveLimitsChanged():
            return replace(state, node_moves_max=event.node_moves_max, cluster_moves_max=event.cluster_moves_max)
        case SlotsQueued():
            assert event.saga not in state.waiting, f"{event.saga} queued twice"
            waiting = state.waiting.set(event.saga, Reservation(event.source, event.target))
            return replace(state, waiting=waiting, queue=(*state.queue, event.saga))
        case SlotsGranted():
            assert event.saga not in state.held, f"{event.saga} was granted slots twice"
            held = state.held.set(event.saga, state.waiting[event.saga])
            return replace(_left(state, event.saga), held=held)
        case SlotsReleased():
            held = state.held.delete(event.saga) if event.saga in state.held else state.held
            # Silence is attested only to moves that hold slots, so every attestation is forgotten with the slots.
            silences = state.silences.delete(event.saga) if event.saga in state.silences else state.silences
            return replace(_left(state, event.saga), held=held, silences=silences)
        case _:
            assert_never(event)


def _left(state: Cluster, saga: str) -> Cluster:
    """The cluster with the move out of the queue."""
    if saga not in state.waiting:
        return state
    return replace(
        state, waiting=state.waiting.delete(saga), queue=tuple(other for other in state.queue if other != saga)
    )


class NodeTimer(NamedTuple):
    """A node's lease, which runs out after `seconds` unless renewed."""

    node: str
    incarnation: int
    seconds: float
    kind: Literal["lease"] = "lease"
    name: str = ""


def timers(part: DataNode | Cluster) -> tuple[NodeTimer, ...]:
    """What can run out for the node now; for the cluster as a whole, nothing."""
    # A lease that is over cannot run out again. When the node has returned, the timer is armed anew.
    if not isinstance(part, DataNode) or not part.alive:
        return ()
    return (NodeTimer(part.id, part.incarnation, part.lease_seconds),)


def renews(command: ClusterCommand) -> Renewed | None:
    """Which timers the command, once answered, gives their full length again; None: none at all."""
    # A join that changes nothing is a sign of life as good as a renewal.
    return (lambda _lease: True) if isinstance(command, RenewNode | JoinNode) else None


def is_only_sign(command: RenewNode, state: Cluster) -> bool:
    """Whether the renewal surely changes nothing: of a node whose lease holds, by the process that has joined last."""
    node = state.nodes.get(command.node)
    return node is not None and node.alive and node.incarnation == command.incarnation


def expire(timer: NodeTimer) -> ExpireNode:
    """The command to give when the timer has run out."""
    return ExpireNode(node=timer.node, incarnation=timer.incarnation)


DECIDER: Final[Decider[Cluster, ClusterCommand, ClusterEvent]] = Decider(
    stream=CLUSTER,
    commands=get_args(PublicCommand),
    internal=get_args(InternalCommand),
    events=get_args(ClusterEvent),
    initial=INITIAL,
    decide=decide,
    evolve=evolve,
    parts=Parts(
        item=lambda message: getattr(message, "node", ""),
        # In an order that is the same in every process.
        items=lambda state: sorted(state.nodes),
        part=lambda state, item: state.nodes.get(item) if item else state,
        version=lambda part: None if part is None else part.version,
        incarnation=lambda part: getattr(part, "incarnation", None),
        timers=timers,
        renews=renews,
        expire=expire,
        signs={RenewNode: is_only_sign},
    ),
    state=Cluster,
)
