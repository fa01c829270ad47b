"""What happens to the shards of a keyspace: its events, and the state that they fold into.

    unassigned ──ShardsAssigned──▶ inactive ──ShardOpened──▶ active ◀──────────────────────────┐
                                                               │ ShardMoveStarted              │ ShardMoveEnded
                                                               ▼                               │
                                              migrating ──ShardFenced──▶ fenced ──ShardMoved─────▶ the target's, epoch + 1
                                                                            └────ShardReclaimed──▶ the source's, epoch + 1

Of `ShardMoved` and `ShardReclaimed` only one can follow a fence: both compare the epoch, and both raise it.
For every copy that a move makes there is a clean-up intent, from before the copy exists until it is deleted or owned by its node.
"""

from dataclasses import replace
from typing import Annotated, Final, Literal, assert_never

from immutables import Map
from pydantic import Field, StringConstraints

from domain.decider import AsPairs
from domain.message import Event, Recorded, event
from muster.wire.shards.answers import MoveWeights
from muster.wire.shards.driver import ShardLimits
from muster.wire.shards.key import shards_max
from muster.wire.stream import Name
from muster.wire.value import value

Status = Literal["active", "migrating", "inactive"]
Outcome = Literal["completed", "aborted"]
Number = Annotated[int, Field(strict=True, ge=0, lt=shards_max)]
Migration = Annotated[str, StringConstraints(max_length=400)]
# Left out where nothing was weighed, so that the hash of what such a command asks is what it was before there were weights.
Weighed = Annotated[MoveWeights | None, Field(exclude_if=lambda found: found is None)]


@value
class Shard:
    """A shard: who owns it with which epoch. `fenced`: its owner acknowledges nothing any more; `migration`: the move under
    way, to `target`; `latest`: the newest move, also when it has ended.
    """

    id: int
    epoch: int = 0
    owner: str | None = None
    status: Status = "inactive"
    fenced: bool = False
    pinned: bool = False
    migration: str | None = None
    target: str | None = None
    latest: str | None = None


@value
class Cleanup:
    """A copy of a shard on a node that must go: at once when `due`, else when its move says so. It means copies up to `epoch`."""

    shard: int
    node: str
    epoch: int
    migration: str
    due: bool


@value
class Keyspace:
    """A keyspace: `count` shards (0: there is none yet), those with an event so far, open clean-up intents, moves so far."""

    version: int
    count: int
    limits: ShardLimits
    shards: Annotated[Map[int, Shard], AsPairs]
    cleanups: Annotated[Map[tuple[int, str], Cleanup], AsPairs]
    moves: int = 0

    def shard(self, number: int) -> Shard:
        """The shard, also when nothing has happened to it yet."""
        return self.shards.get(number) or Shard(number)


INITIAL: Final = Keyspace(0, 0, ShardLimits(), Map(), Map())


@event
class KeyspaceCreated(Event):
    """There is a keyspace, with shards that nobody owns yet."""

    type = "muster.keyspace.created.v1"
    shards: int
    value_bytes_max: int
    shard_bytes_max: int


@event
class ShardsAssigned(Event):
    """The node is to open these shards, empty, with the epoch 1."""

    type = "muster.keyspace.shards_assigned.v1"
    node: Name
    shards: tuple[Number, ...]


@event
class ShardEvent(Event):
    """Something about one shard."""

    shard: Number


@event
class ShardOpened(ShardEvent):
    """The owner serves the shard for the first time."""

    type = "muster.shard.opened.v1"
    node: Name
    epoch: int


@event
class ShardPinSet(ShardEvent):
    """The shard stays where it is."""

    type = "muster.shard.pin_set.v1"


@event
class ShardPinCleared(ShardEvent):
    """The shard may be moved again."""

    type = "muster.shard.pin_cleared.v1"


@event
class ShardMoveStarted(ShardEvent):
    """A move of the shard is under way."""

    type = "muster.shard.move_started.v1"
    migration: Migration
    epoch: int
    source: Name
    target: Name


@event
class CleanupIntended(ShardEvent):
    """Whatever is, or will be, on the node of this shard with an epoch up to this one has to go, unless it comes to own it."""

    type = "muster.shard.cleanup_intended.v1"
    node: Name
    epoch: int
    migration: Migration


@event
class ShardFenced(ShardEvent):
    """The owner is to acknowledge nothing any more at or below the epoch."""

    type = "muster.shard.fenced.v1"
    migration: Migration
    epoch: int


@event
class ShardMoved(ShardEvent):
    """The commit: the shard has another owner, with the next epoch. What the old one holds has to go."""

    type = "muster.shard.moved.v1"
    migration: Migration
    epoch: int
    owner: Name
    was: Name


@event
class ShardReclaimed(ShardEvent):
    """The abort of a fenced move: the shard stays with its owner, with the next epoch."""

    type = "muster.shard.reclaimed.v1"
    migration: Migration
    epoch: int
    owner: Name


@event
class ShardMoveEnded(ShardEvent):
    """The move is over. `cleaned`: it has left nothing behind; else its clean-up intent is due."""

    type = "muster.shard.move_ended.v1"
    migration: Migration
    outcome: Outcome
    cleaned: bool


@event
class CleanupDone(ShardEvent):
    """The node holds nothing of the shard any more."""

    type = "muster.shard.cleanup_done.v1"
    node: Name


@event
class CleanupAbandoned(ShardEvent):
    """The node is no longer part of the cluster: there is nothing to clean up."""

    type = "muster.shard.cleanup_abandoned.v1"
    node: Name


KeyspaceEvent = (
    KeyspaceCreated
    | ShardsAssigned
    | ShardOpened
    | ShardPinSet
    | ShardPinCleared
    | ShardMoveStarted
    | CleanupIntended
    | ShardFenced
    | ShardMoved
    | ShardReclaimed
    | ShardMoveEnded
    | CleanupDone
    | CleanupAbandoned
)
"""All that can happen to a keyspace and its shards."""


def evolve(state: Keyspace, recorded: Recorded[KeyspaceEvent]) -> Keyspace:
    """The keyspace after the event."""
    return replace(_evolved(state, recorded.event), version=state.version + 1)


def _evolved(state: Keyspace, event: KeyspaceEvent) -> Keyspace:
    match event:
        case KeyspaceCreated():
            assert state.count == 0, "the keyspace was created twice"
            return replace(state, count=event.shards, limits=ShardLimits(event.value_bytes_max, event.shard_bytes_max))
        case ShardsAssigned():
            shards = state.shards.mutate()
            for number in event.shards:
                assert state.shard(number).owner is None, f"shard {number} was assigned twice"
                # Epoch 0 is nobody's, so the first owner begins at 1.
                shards[number] = replace(state.shard(number), owner=event.node, epoch=1)
            return replace(state, shards=shards.finish())
        case CleanupIntended():
            cleanup = Cleanup(event.shard, event.node, event.epoch, event.migration, due=False)
            return replace(state, cleanups=state.cleanups.set((event.shard, event.node), cleanup))
        case CleanupDone() | CleanupAbandoned():
            return replace(state, cleanups=_without(state.cleanups, event.shard, event.node))
        case ShardMoveStarted():
            return _started(state, state.shard(event.shard), event)
        case ShardMoved():
            return _moved(state, state.shard(event.shard), event)
        case ShardMoveEnded():
            return _ended(state, state.shard(event.shard), event)
        case ShardOpened() | ShardPinSet() | ShardPinCleared() | ShardFenced() | ShardReclaimed():
            shard = _changed(state.shard(event.shard), event)
            return replace(state, shards=state.shards.set(shard.id, shard))
        case _:
            assert_never(event)


def _changed(shard: Shard, event: ShardOpened | ShardPinSet | ShardPinCleared | ShardFenced | ShardReclaimed) -> Shard:
    match event:
        case ShardOpened():
            assert (shard.owner, shard.epoch) == (event.node, event.epoch), f"shard {shard.id}: opened by a stranger"
            return replace(shard, status="active")
        case ShardPinSet():
            return replace(shard, pinned=True)
        case ShardPinCleared():
            return replace(shard, pinned=False)
        case ShardFenced():
            assert not shard.fenced, f"shard {shard.id} was fenced twice"
            assert shard.epoch == event.epoch, f"epoch gap: shard {shard.id} is at {shard.epoch}"
            return replace(shard, fenced=True)
        case ShardReclaimed():
            _assert_next(shard, event.epoch)
            # The epoch grows although the owner stays: a commit of the same move that comes too late finds another
            # one.
            return replace(shard, epoch=event.epoch, fenced=False)
        case _:
            assert_never(event)


def _started(state: Keyspace, shard: Shard, event: ShardMoveStarted) -> Keyspace:
    assert shard.migration is None, f"shard {shard.id} is being moved by {shard.migration}"
    assert (shard.epoch, shard.owner) == (event.epoch, event.source), f"shard {shard.id}: not its owner's move"
    # The count of moves gives the next move its number, and with that a stream of its own.
    moving = replace(shard, status="migrating", migration=event.migration, target=event.target, latest=event.migration)
    return replace(state, moves=state.moves + 1, shards=state.shards.set(shard.id, moving))


def _moved(state: Keyspace, shard: Shard, event: ShardMoved) -> Keyspace:
    _assert_next(shard, event.epoch)
    assert shard.owner == event.was, f"shard {shard.id} was {shard.owner}'s, not {event.was}'s"
    # The target's copy is the shard from now on, so its intent goes. The source's copy has to go instead, but not at
    # once: the move keeps it for a while, and then cleans up itself.
    cleanups = _without(state.cleanups, shard.id, event.owner)
    left = Cleanup(shard.id, event.was, shard.epoch, event.migration, due=False)
    moved = replace(shard, epoch=event.epoch, owner=event.owner, fenced=False)
    return replace(state, shards=state.shards.set(shard.id, moved), cleanups=cleanups.set((shard.id, event.was), left))


def _assert_next(shard: Shard, epoch: int) -> None:
    assert shard.fenced, f"shard {shard.id} changed its epoch without a fence"
    assert epoch == shard.epoch + 1, f"epoch gap: shard {shard.id} went from {shard.epoch} to {epoch}"


def _ended(state: Keyspace, shard: Shard, event: ShardMoveEnded) -> Keyspace:
    assert shard.migration == event.migration, f"shard {shard.id} is moved by {shard.migration}, not {event.migration}"
    assert not shard.fenced, f"shard {shard.id} would stay fenced for ever"
    cleanups = state.cleanups
    for place, cleanup in cleanups.items():
        # What the move has not cleaned up is due from now on: the shard map wants it gone, although the move has
        # ended.
        if cleanup.migration == event.migration:
            cleanups = cleanups.delete(place) if event.cleaned else cleanups.set(place, replace(cleanup, due=True))
    # `latest` stays, so that a command which starts the next move can have an id that this move never had.
    shards = state.shards.set(shard.id, replace(shard, status="active", migration=None, target=None))
    return replace(state, shards=shards, cleanups=cleanups)


def _without(cleanups: Map[tuple[int, str], Cleanup], shard: int, node: str) -> Map[tuple[int, str], Cleanup]:
    place = (shard, node)
    return cleanups.delete(place) if place in cleanups else cleanups
