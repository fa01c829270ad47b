"""Who owns which shard, with which epoch, and is it moving? One row per shard that has been opened, or pinned."""

from dataclasses import replace
from typing import Final

from domain.message import Recorded
from domain.shards.shard import (
    ShardEvent,
    ShardFenced,
    ShardMoved,
    ShardMoveEnded,
    ShardMoveStarted,
    ShardOpened,
    ShardPinCleared,
    ShardPinSet,
    ShardReclaimed,
)
from muster.wire.stream import name_of
from muster.wire.value import value
from projections.projection import Key, Projection


@value
class ShardRow:
    """A shard as readers see it; `migration` is the move under way, to `target`. `position` is that of the last event."""

    owner: str | None
    epoch: int
    status: str
    fenced: bool
    pinned: bool
    migration: str | None
    target: str | None
    position: int


def key_of(recorded: Recorded) -> Key:
    """(keyspace, shard)."""
    event = recorded.event
    assert isinstance(event, ShardEvent), f"{event.type} is about no shard"
    return name_of(recorded.stream), str(event.shard)


def fold(row: ShardRow | None, recorded: Recorded) -> ShardRow | None:
    """The row after the event."""
    event = recorded.event
    if row is None:
        # A shard may be pinned before anybody has opened it.
        assert isinstance(event, ShardOpened | ShardPinSet), f"{event.type} of a shard that was never opened"
        row = ShardRow(None, 0, "inactive", False, False, None, None, recorded.position)
    return replace(_changed(row, event), position=recorded.position)


def _changed(row: ShardRow, event: object) -> ShardRow:
    match event:
        case ShardOpened():
            return replace(row, owner=event.node, epoch=event.epoch, status="active")
        case ShardPinSet():
            return replace(row, pinned=True)
        case ShardPinCleared():
            return replace(row, pinned=False)
        case ShardMoveStarted():
            return replace(row, status="migrating", migration=event.migration, target=event.target)
        case ShardFenced():
            return replace(row, fenced=True)
        case ShardMoved() | ShardReclaimed():
            return replace(row, owner=event.owner, epoch=event.epoch, fenced=False)
        case ShardMoveEnded():
            return replace(row, status="active", migration=None, target=None)
        case _:
            raise AssertionError(f"unknown event {event}")


SHARDS: Final = Projection(
    name="shards",
    revision=1,
    row=ShardRow,
    key=("keyspace", "shard"),
    # Not `ShardsAssigned`: it names many shards, and an event touches one row at most.
    events=frozenset(
        (
            ShardOpened,
            ShardPinSet,
            ShardPinCleared,
            ShardMoveStarted,
            ShardFenced,
            ShardMoved,
            ShardReclaimed,
            ShardMoveEnded,
        )
    ),
    key_of=key_of,
    fold=fold,
    keeps_whole_row=True,
    in_memory=False,  # A keyspace's state says the same, and of shards to which nothing has happened yet too.
)
