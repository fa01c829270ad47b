"""Books about the cluster: slots within their limits, and silences that were attested only to sagas of absent nodes."""

from collections import Counter
from collections.abc import Container, Iterator

from domain.message import Event
from domain.shards import node as n


class SlotBooks:
    """`attested` has the (saga, node) pairs for which the end of the node's lease was attested."""

    def __init__(self) -> None:
        self.attested: set[tuple[str, str]] = set()
        self._slots: dict[str, frozenset[str]] = {}
        self._waiting: set[str] = set()
        # What holds in a cluster whose limits nobody has set.
        self._limits = (1, 4)
        self._away: dict[str, bool] = {}

    def owed(self, over: Container[str]) -> list[str]:
        """Slots of the sagas that are over."""
        return [f"I9 {id_} has ended, but holds slots" for id_ in self._slots if id_ in over]

    def take(self, event: Event) -> Iterator[str]:
        """What the event of the cluster's stream breaks."""
        match event:
            case n.MoveLimitsChanged():
                self._limits = (event.node_moves_max, event.cluster_moves_max)
            case n.SlotsQueued():
                self._waiting.add(event.saga)
            case n.SlotsReleased():
                self._waiting.discard(event.saga)
                self._slots.pop(event.saga, None)
            case n.SlotsGranted():
                yield from self._granted(event)
            case n.NodeJoined() | n.NodeRejoined() | n.NodeReturned():
                self._away[event.node] = False
            case n.NodeLost() | n.NodeRemoved():
                self._away[event.node] = True
            case n.NodeSilenceAttested():
                # A node that has never joined has no lease either.
                if not self._away.get(event.node, True):
                    yield f"I5 the silence of {event.node} was attested to {event.saga}, but its lease holds"
                self.attested.add((event.saga, event.node))

    def _granted(self, event: n.SlotsGranted) -> Iterator[str]:
        if event.saga not in self._waiting:
            yield f"I14 {event.saga} was granted slots that it did not wait for"
        self._waiting.discard(event.saga)
        self._slots[event.saga] = frozenset((event.source, event.target))
        # Counted at grants alone: limits that are lowered take no slot from a move that has one.
        used = Counter(node for nodes in self._slots.values() for node in nodes)
        node_moves_max, cluster_moves_max = self._limits
        for node in self._slots[event.saga]:
            if used[node] > node_moves_max:
                yield f"I9 {node} takes part in {used[node]} moves at a time, not in {node_moves_max}"
        if len(self._slots) > cluster_moves_max:
            yield f"I9 {len(self._slots)} moves at a time, not {cluster_moves_max}"
