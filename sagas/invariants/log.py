"""The invariants of moves and failovers, checked on the log: a walk over its events that says what each of them breaks.

The books are kept apart from the folds that they check, and believe no event. The numbers are the design's.

    I1   a shard has one owner per epoch, and epochs grow one by one
    I4   a target comes to own a shard by its move's commit only, which is recorded together with the saga's own event
    I5   no commit without the fence's answer, or an attested silence of the node that did not answer
    I6   a saga ends, or stands blocked; no shard and no primary stays fenced
    I7   no way back after the pivot, and no step forward on the way back
    I8   what was done is undone in reverse order
    I9   a shard has one move at a time, a group one failover; slots stay within their limits
    I11  what is made on a node has an intent to clean it up before, and nothing is called clean that was not cleaned
    I14  nothing counts twice
    I15  a group's in-sync set changes by its epoch's primary only, version by version; who is promoted is of it, or somebody has
         accepted that writes are lost
    I16  a promotion names every other member and stands with the saga's own event; where copies are compared, the promoted one
         has said at the epoch that ended that it reaches far enough
    I18  a group has one primary per epoch, and epochs grow one by one; one begins behind the proven end of the one before (said,
         seen, lease), or as the same primary's

Events are taken in the order of their partition. What spans partitions can only be owed, and `owed` says it.
"""

from collections.abc import Iterator
from typing import Final

from domain import saga as s
from domain.groups import group as g
from domain.message import Recorded
from domain.shards import node as n
from domain.shards import shard as k
from sagas.catalogue import DEFINITIONS
from sagas.engine.definition import Definitions
from sagas.group_failover import NAME as FAILOVER
from sagas.invariants.groups import GroupBooks
from sagas.invariants.sagas import SagaBooks
from sagas.invariants.shards import ShardBooks
from sagas.invariants.slots import SlotBooks
from sagas.shard_migration import NAME as MIGRATION

_SHARD_EVENTS: Final = (k.ShardsAssigned, k.ShardEvent)
_CLUSTER_EVENTS: Final = (n.MoveLimitsChanged, n.SlotsQueued, n.SlotsGranted, n.SlotsReleased, n.NodeEvent)


class Invariants:
    """`take` says what an event breaks, `owed` what the log still owes when it has been read to its end."""

    def __init__(self, definitions: Definitions = DEFINITIONS) -> None:
        self._versions: dict[str, int] = {}
        self._sagas = SagaBooks(definitions)
        self._shards = ShardBooks(self._sagas.live)
        self._slots = SlotBooks()
        self._groups = GroupBooks(self._sagas.live)

    def take(self, recorded: Recorded) -> list[str]:
        """What the event breaks; an empty list, as it should be."""
        where = f"{recorded.partition}@{recorded.position} {recorded.stream}: "
        return [f"{where}{breach}" for breach in self._taken(recorded)]

    def owed(self) -> list[str]:
        """What is still to come: sagas that go on, clean-ups, slots of sagas that have ended, silences never attested."""
        return [
            *self._shards.unpaired(),
            *self._sagas.owed(),
            *self._shards.due(),
            *self._slots.owed(self._sagas.over),
            *self._shards.unattested(self._slots.attested),
        ]

    def _taken(self, recorded: Recorded) -> Iterator[str]:
        event, stream = recorded.event, recorded.stream
        expected = self._versions.get(stream, -1) + 1
        if recorded.version != expected:
            yield f"I14 version {recorded.version} where {expected} was due"
        self._versions[stream] = recorded.version
        # Asked of every event: the saga's own event comes with its commit, by the same command, or the commit stands
        # alone.
        yield from self._shards.follows(recorded)
        if isinstance(event, _SHARD_EVENTS):
            yield from self._shards.take(recorded)
        elif isinstance(event, _CLUSTER_EVENTS):
            yield from self._slots.take(event)
        elif isinstance(event, g.DECIDER.events):
            yield from self._groups.take(recorded)
        elif isinstance(event, s.DECIDER.events):
            # The saga's books forget it when it ends; what it means for its shard is checked with what they knew.
            saga = self._sagas.live.get(stream)
            yield from self._sagas.take(stream, event)
            if saga is not None and saga.name == MIGRATION:
                yield from self._shards.migration_went_on(saga, event, recorded)
            if saga is not None and saga.name == FAILOVER:
                yield from self._groups.failover_went_on(event, stream)
