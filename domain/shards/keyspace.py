"""The aggregate of a keyspace: its shards, who owns them, and what has to be cleaned up; stream `keyspace/<name>`.

Commands   CreateKeyspace · AssignShards · MoveShard · PinShard · UnpinShard; from nodes: ReportOpened · ReportDropped;
           from a move: StartMove · IntendCleanup · FenceShard · CommitMove · ReclaimShard · EndMove; from inside: AbandonCleanup
Events     see `domain.shards.shard`
State      `Keyspace`

`MoveShard` is answered by the saga that it starts (`sagas.shard_migration`); the commands from a move are its steps here.
"""

from typing import Annotated, Final, assert_never, get_args

from pydantic import Field, model_validator

from domain.decider import Decider
from domain.shards.shard import (
    INITIAL,
    CleanupAbandoned,
    CleanupDone,
    CleanupIntended,
    Keyspace,
    KeyspaceCreated,
    KeyspaceEvent,
    Migration,
    Number,
    Outcome,
    Shard,
    ShardFenced,
    ShardMoved,
    ShardMoveEnded,
    ShardMoveStarted,
    ShardOpened,
    ShardPinCleared,
    ShardPinSet,
    ShardReclaimed,
    ShardsAssigned,
    Weighed,
    evolve,
)
from muster.wire.command import Command, Flag, Instant, Whole
from muster.wire.error import (
    KeyspaceNotFound,
    MoveInProgress,
    NoShardsAvailable,
    NotOwner,
    ShardNotFound,
    ShardPinned,
    StaleEpoch,
    VersionConflict,
)
from muster.wire.shards.key import shards_max
from muster.wire.stream import KEYSPACE, Name

__all__ = ["DECIDER", "INITIAL", "Keyspace", "decide", "evolve"]

Nodes = Annotated[tuple[Name, ...], Field(max_length=1_000)]
Seconds = Annotated[float, Field(strict=True, ge=0, le=30 * 86_400)]


class CreateKeyspace(Command):
    """Have a keyspace of so many shards, spread evenly over the nodes. None given: to be assigned later."""

    type = "muster.keyspace.create.v1"
    shards: Annotated[int, Field(strict=True, ge=1, le=shards_max)]
    nodes: Nodes = ()
    value_bytes_max: Annotated[int, Field(strict=True, ge=1, le=64 << 20)] = 1 << 20
    shard_bytes_max: Annotated[int, Field(strict=True, ge=1, le=1 << 40)] = 4 << 30

    @model_validator(mode="after")
    def _distinct(self) -> "CreateKeyspace":
        if len(set(self.nodes)) < len(self.nodes):
            raise ValueError("nodes: one is named twice")
        return self


class AssignShards(Command):
    """Spread the shards that nobody owns over the nodes."""

    type = "muster.keyspace.assign_shards.v1"
    nodes: Annotated[Nodes, Field(min_length=1)]


class ShardCommand(Command):
    """What all commands to a shard carry."""

    shard: Number


class MoveShard(ShardCommand):
    """Move the shard to the target, live.

    `bytes_per_second` throttles the copying; before the cut-over the move waits for `not_before`, or with `hold` for an
    operator's `resume`; `soak_seconds` after it the source's copy is kept for, and `cleanup_seconds` more. `weighed`: why there.
    """

    type = "muster.shard.move.v1"
    target: Name
    bytes_per_second: Annotated[float, Field(strict=True, ge=1_000, le=1e12)] | None = None
    hold: Flag = False
    not_before: Instant | None = None
    soak_seconds: Seconds = 1.0
    cleanup_seconds: Seconds = 1.0
    weighed: Weighed = None

    @model_validator(mode="after")
    def _one_gate(self) -> "MoveShard":
        if self.hold and self.not_before is not None:
            raise ValueError("hold: an operator decides, not the clock; leave out not_before")
        return self


class PinShard(ShardCommand):
    """Keep the shard where it is."""

    type = "muster.shard.pin.v1"


class UnpinShard(ShardCommand):
    """The shard may be moved again."""

    type = "muster.shard.unpin.v1"


class ReportOpened(ShardCommand):
    """The owner serves the fresh shard."""

    type = "muster.shard.report_opened.v1"
    node: Name
    epoch: Whole


class ReportDropped(ShardCommand):
    """The node holds nothing of the shard any more."""

    type = "muster.shard.report_dropped.v1"
    node: Name
    migration: Migration


class MoveCommand(ShardCommand):
    """What all steps of a move carry: `epoch` is the shard's when the move was planned."""

    migration: Migration
    epoch: Whole


class StartMove(MoveCommand):
    """Take the shard for a move."""

    type = "muster.shard.start_move.v1"
    target: Name


class IntendCleanup(MoveCommand):
    """Say that what will be on the node has to go, before it is there."""

    type = "muster.shard.intend_cleanup.v1"
    node: Name


class FenceShard(MoveCommand):
    """Stop the owner."""

    type = "muster.shard.fence.v1"


class CommitMove(MoveCommand):
    """Make the target the owner, if the fence still stands."""

    type = "muster.shard.commit_move.v1"
    target: Name


class ReclaimShard(MoveCommand):
    """Let the source go on, if the fence still stands."""

    type = "muster.shard.reclaim.v1"


class EndMove(MoveCommand):
    """The move is over."""

    type = "muster.shard.end_move.v1"
    outcome: Outcome
    cleaned: Flag


class AbandonCleanup(ShardCommand):
    """The node has left the cluster for good."""

    type = "muster.shard.abandon_cleanup.v1"
    node: Name


PublicCommand = CreateKeyspace | AssignShards | MoveShard | PinShard | UnpinShard | ReportOpened | ReportDropped
"""What anyone may ask of a keyspace."""

StepOfMove = StartMove | IntendCleanup | FenceShard | CommitMove | ReclaimShard | EndMove
"""What a move does at its keyspace, step by step."""

InternalCommand = StepOfMove | AbandonCleanup
"""What only controllers give."""

KeyspaceCommand = PublicCommand | InternalCommand


def decide(command: KeyspaceCommand, state: Keyspace) -> list[KeyspaceEvent]:
    """What the command makes happen. Raises a `Refused`; an empty list: already so."""
    match command:
        case CreateKeyspace():
            return _create(command, state)
        case AssignShards():
            _check_created(state)
            free = [number for number in range(state.count) if state.shard(number).owner is None]
            return _assigned(free, command.nodes)
        case MoveShard():
            # The machine gives this command to the engine of sagas, which asks for `StartMove` here.
            raise AssertionError("a move of a shard is started as a saga; see sagas.catalogue")
        case PinShard():
            shard = shard_for(command, state)
            return [] if shard.pinned else [ShardPinSet(shard=shard.id)]
        case UnpinShard():
            shard = shard_for(command, state)
            return [ShardPinCleared(shard=shard.id)] if shard.pinned else []
        case ReportOpened():
            return _opened(command, shard_for(command, state))
        case ReportDropped() | AbandonCleanup():
            return _cleaned(command, shard_for(command, state), state)
        case StartMove():
            return _start(command, shard_for(command, state), state)
        case IntendCleanup() | FenceShard() | CommitMove() | ReclaimShard() | EndMove():
            return _step(command, shard_for(command, state), state)
        case _:
            assert_never(command)


def _cleaned(command: ReportDropped | AbandonCleanup, shard: Shard, state: Keyspace) -> list[KeyspaceEvent]:
    cleanup = state.cleanups.get((shard.id, command.node))
    # Until it is due, what becomes of the copy is its move's affair: the node may yet come to own the shard.
    if cleanup is None or not cleanup.due:
        return []
    match command:
        case AbandonCleanup():
            return [CleanupAbandoned(shard=shard.id, node=command.node)]
        case ReportDropped():
            # A late report about what an earlier move had left says nothing about this copy.
            meant = cleanup.migration == command.migration
            return [CleanupDone(shard=shard.id, node=command.node)] if meant else []
        case _:
            assert_never(command)


def shard_for(command: ShardCommand, state: Keyspace) -> Shard:
    """The shard that the command is about. Raises KeyspaceNotFound, ShardNotFound."""
    _check_created(state)
    if command.shard >= state.count:
        raise ShardNotFound(f"there are {state.count} shards, from 0 on", shard=command.shard)
    return state.shard(command.shard)


def _check_created(state: Keyspace) -> None:
    if state.count == 0:
        raise KeyspaceNotFound("there is no such keyspace; create it first")


def _create(command: CreateKeyspace, state: Keyspace) -> list[KeyspaceEvent]:
    limits = (command.value_bytes_max, command.shard_bytes_max)
    if state.count:
        # The nodes are not compared: who owns which shard may have changed since the keyspace was created.
        if (state.count, state.limits.value_bytes_max, state.limits.shard_bytes_max) == (command.shards, *limits):
            return []
        raise VersionConflict(
            f"the keyspace has {state.count} shards and limits of its own; neither can be changed", shards=state.count
        )
    created = KeyspaceCreated(shards=command.shards, value_bytes_max=limits[0], shard_bytes_max=limits[1])
    return [created, *_assigned(range(command.shards), command.nodes)]


def _assigned(numbers: "range | list[int]", nodes: tuple[str, ...]) -> list[KeyspaceEvent]:
    """The shards dealt out in turn, one event for each node."""
    dealt = [tuple(numbers[index :: len(nodes)]) for index in range(len(nodes))]
    return [ShardsAssigned(node=node, shards=shards) for node, shards in zip(nodes, dealt, strict=True) if shards]


def _opened(command: ReportOpened, shard: Shard) -> list[KeyspaceEvent]:
    if (shard.owner, shard.epoch) != (command.node, command.epoch):
        raise NotOwner(
            f"shard {shard.id} is {shard.owner}'s with epoch {shard.epoch}", epoch=shard.epoch, owner=shard.owner
        )
    # The owner may report again when it did not see the answer.
    if shard.status != "inactive":
        return []
    return [ShardOpened(shard=shard.id, node=command.node, epoch=command.epoch)]


def _start(command: StartMove, shard: Shard, state: Keyspace) -> list[KeyspaceEvent]:
    if shard.migration is not None:
        raise MoveInProgress(
            f"shard {shard.id} is being moved already, by {shard.migration}", migration=shard.migration
        )
    if shard.pinned:
        raise ShardPinned(f"shard {shard.id} is pinned to {shard.owner}; unpin it first", shard=shard.id)
    if shard.owner is None or shard.status != "active":
        raise NoShardsAvailable(f"shard {shard.id} is not open yet", shard=shard.id)
    # There is one clean-up intent for a shard on a node. The drop that is still due could take the new copy for the
    # old.
    if cleanup := state.cleanups.get((shard.id, command.target)):
        detail = f"{command.target} still has to clean up after {cleanup.migration}; wait for that"
        raise MoveInProgress(detail, migration=cleanup.migration)
    _same_epoch(command, shard)
    started = ShardMoveStarted(
        shard=shard.id, migration=command.migration, epoch=shard.epoch, source=shard.owner, target=command.target
    )
    return [started]


def _step(
    command: IntendCleanup | FenceShard | CommitMove | ReclaimShard | EndMove, shard: Shard, state: Keyspace
) -> list[KeyspaceEvent]:
    if shard.migration != command.migration:
        # The end itself takes the migration off the shard, so a repeat of it comes here.
        if isinstance(command, EndMove):
            return []
        raise MoveInProgress(f"shard {shard.id} is not moved by {command.migration}", migration=shard.migration)
    match command:
        case IntendCleanup():
            if (shard.id, command.node) in state.cleanups:
                return []
            # The epoch with which the target would own the shard: copies that a later move brings are not meant.
            epoch = command.epoch + 1
            return [CleanupIntended(shard=shard.id, node=command.node, epoch=epoch, migration=command.migration)]
        case FenceShard():
            _same_epoch(command, shard)
            return [] if shard.fenced else [ShardFenced(shard=shard.id, migration=command.migration, epoch=shard.epoch)]
        case CommitMove():
            return _commit(command, shard)
        case ReclaimShard():
            return _reclaim(command, shard)
        case EndMove():
            ended = ShardMoveEnded(
                shard=shard.id, migration=command.migration, outcome=command.outcome, cleaned=command.cleaned
            )
            return [ended]
        case _:
            assert_never(command)


def _commit(command: CommitMove, shard: Shard) -> list[KeyspaceEvent]:
    # A repeat. It must be known before the check of the fence, which the commit itself has lifted.
    if (shard.epoch, shard.owner) == (command.epoch + 1, command.target):
        return []
    # The compare-and-set: an abort that came first has raised the epoch, and the fence is gone.
    _fence_stands(command, shard)
    assert shard.owner is not None, "a shard that is being moved has an owner"
    moved = ShardMoved(
        shard=shard.id, migration=command.migration, epoch=shard.epoch + 1, owner=command.target, was=shard.owner
    )
    return [moved]


def _reclaim(command: ReclaimShard, shard: Shard) -> list[KeyspaceEvent]:
    # There is no fence to lift, or this has lifted it already. A shard that is the target's was committed: that is no
    # repeat, and is refused below by its epoch.
    if not shard.fenced and shard.owner != shard.target:
        return []
    _fence_stands(command, shard)
    assert shard.owner is not None, "a shard that is being moved has an owner"
    reclaimed = ShardReclaimed(shard=shard.id, migration=command.migration, epoch=shard.epoch + 1, owner=shard.owner)
    return [reclaimed]


def _same_epoch(command: MoveCommand, shard: Shard) -> None:
    if shard.epoch != command.epoch:
        raise StaleEpoch(
            f"shard {shard.id} is at epoch {shard.epoch}, not {command.epoch}", epoch=shard.epoch, owner=shard.owner
        )


def _fence_stands(command: MoveCommand, shard: Shard) -> None:
    _same_epoch(command, shard)
    if not shard.fenced:
        raise StaleEpoch(f"shard {shard.id} is not fenced any more", epoch=shard.epoch, owner=shard.owner)


DECIDER: Final[Decider[Keyspace, KeyspaceCommand, KeyspaceEvent]] = Decider(
    stream=KEYSPACE,
    commands=get_args(PublicCommand),
    internal=get_args(InternalCommand),
    events=get_args(KeyspaceEvent),
    initial=INITIAL,
    decide=decide,
    evolve=evolve,
    state=Keyspace,
)
