"""Who may do what to a shard of this node: each verb as a function of its record, and how a request is answered.

    nothing ──open──▶ serving ──fence──▶ fenced ──activate (a newer epoch)──▶ serving
    nothing ──prepare──▶ hidden ──activate (its epoch, complete)──▶ serving
    any ──retire (a newer epoch, somewhere else)──▶ retired        any ──drop──▶ retired, without a copy

Each verb gives the new record, or the same object when there is nothing to do. `fresh` is the number for a new copy.
Epochs never fall, and a fenced shard does not serve again with the epoch at which it was fenced.
"""

from dataclasses import replace

from infra.shards.record import ShardRecord
from muster.wire.error import ChecksumMismatch, DataUnavailable, NotOwner, ShardNotFound, StaleEpoch
from muster.wire.shards.driver import Location, ShardId, ShardLimits


def opened(record: ShardRecord | None, shard: ShardId, epoch: int, limits: ShardLimits, fresh: int) -> ShardRecord:
    """See `ShardOwner.open`."""
    # A tombstone gives way to a newer epoch only: a late repeat of the old `open` would bring an empty shard back.
    if record is None or (not record.copy and epoch > record.epoch):
        return ShardRecord("serving", epoch, copy=fresh, limits=limits)
    if record.state in ("serving", "fenced") and epoch == record.epoch:
        return record
    raise _stale(
        record, f"{shard} is known here with epoch {record.epoch} ({record.state}): it cannot be opened afresh"
    )


def prepared(record: ShardRecord | None, shard: ShardId, epoch: int, fresh: int) -> ShardRecord:
    """See `ShardTarget.prepare`."""
    if record is None:
        return ShardRecord("hidden", epoch, copy=fresh)
    if record.state in ("serving", "fenced"):
        raise _stale(record, f"{shard} is {record.state} here with epoch {record.epoch}: it is not wiped for a copy")
    # An owner beside the epoch says that another node serves with it already.
    if epoch < record.epoch or (epoch == record.epoch and record.owner is not None):
        raise _stale(record, f"{shard} has epoch {record.epoch} already: no copy can be prepared for {epoch}")
    if record.state == "hidden" and epoch == record.epoch:
        return record
    return ShardRecord("hidden", epoch, copy=fresh)


def restarted(record: ShardRecord | None, shard: ShardId, copy: int, fresh: int) -> ShardRecord:
    """The hidden copy number `copy`, empty again."""
    return ShardRecord("hidden", taking(record, shard, copy).epoch, copy=fresh)


def fenced(record: ShardRecord | None, shard: ShardId, epoch: int) -> ShardRecord:
    """See `ShardOwner.fence`."""
    record = _known(record, shard)
    if epoch < record.epoch:
        raise _stale(record, f"{shard} has epoch {record.epoch} here: a fence at {epoch} comes too late")
    if record.state in ("hidden", "retired"):
        raise not_owner(record, shard)
    if record.state == "fenced" and epoch == record.epoch:
        return record
    return replace(record, state="fenced", epoch=epoch)


def activated(record: ShardRecord | None, shard: ShardId, epoch: int, limits: ShardLimits) -> ShardRecord:
    """See `ShardOwner.activate`."""
    record = _known(record, shard)
    if not record.copy:
        raise ShardNotFound(f"no copy of {shard} is here")
    if epoch < record.epoch or (record.state == "fenced" and epoch == record.epoch):
        raise _stale(record, f"{shard} is {record.state} with epoch {record.epoch}: it cannot serve with {epoch}")
    if record.state == "retired":
        raise not_owner(record, shard)
    if record.state == "hidden":
        _check_complete(record, shard, epoch)
    return replace(record, state="serving", epoch=epoch, owner=None, limits=limits, checkpoint=None)


def retired(record: ShardRecord | None, shard: ShardId, epoch: int, owner: Location) -> ShardRecord:
    """See `ShardOwner.retire`."""
    if record is None:
        return ShardRecord("retired", epoch, owner)
    if epoch < record.epoch or (epoch == record.epoch and record.state in ("serving", "fenced")):
        raise _stale(
            record, f"{shard} is {record.state} with epoch {record.epoch}: {owner.node} cannot own it with {epoch}"
        )
    if record.state == "retired" and (record.epoch, record.owner) == (epoch, owner):
        return record
    return replace(record, state="retired", epoch=epoch, owner=owner, checkpoint=None)


def dropped(record: ShardRecord | None, shard: ShardId, epoch: int) -> ShardRecord | None:
    """See `ShardOwner.drop`. The tombstone remembers the epoch: what came too late cannot open the shard again."""
    if record is None or not record.copy:
        return record
    if record.state != "retired" and epoch < record.epoch:
        raise _stale(record, f"{shard} is {record.state} with epoch {record.epoch}: it is not dropped at {epoch}")
    if epoch <= record.epoch:
        return ShardRecord("retired", record.epoch, record.owner)
    # The owner of the older epoch is the owner no more, and the owner of this epoch is not known here.
    return ShardRecord("retired", epoch)


def taking(record: ShardRecord | None, shard: ShardId, copy: int) -> ShardRecord:
    """The record, when it is of the hidden copy number `copy`: what a wiped copy was to get must not reach its successor."""
    if record is None or record.state != "hidden" or record.copy != copy:
        epoch = record.epoch if record else None
        raise StaleEpoch(f"the copy {copy} of {shard} is no longer the hidden one here", epoch=epoch)
    return record


def check_serves(
    record: ShardRecord | None, shard: ShardId, epoch: int, here: Location | None, *, fenced: bool = False
) -> ShardRecord:
    """The record, when a request with this epoch (0: no opinion) is served; `fenced`: by a fenced shard, too."""
    record = _known(record, shard)
    if epoch > record.epoch or (epoch == record.epoch and record.state == "hidden"):
        raise DataUnavailable(f"{shard}: this node has not heard yet that epoch {epoch} has begun")
    if record.state in ("hidden", "retired"):
        raise not_owner(record, shard)
    if 0 < epoch < record.epoch:
        raise _stale(record, f"{shard} is served with epoch {record.epoch}, no longer with {epoch}", here)
    if record.state == "fenced" and not fenced:
        raise DataUnavailable(f"{shard} is being handed over")
    return record


def not_owner(record: ShardRecord, shard: ShardId) -> NotOwner:
    """The refusal of a shard that is not served here; it gives an epoch only together with the owner that serves with it."""
    if record.owner is None:
        return NotOwner(f"{shard} is not served here")
    owner = record.owner
    return NotOwner(
        f"{shard} is served by {owner.node} at {owner.address} with epoch {record.epoch}",
        epoch=record.epoch,
        owner=owner.node,
        address=owner.address,
    )


def _known(record: ShardRecord | None, shard: ShardId) -> ShardRecord:
    if record is None:
        raise ShardNotFound(f"{shard} is not known here")
    return record


def _stale(record: ShardRecord, detail: str, here: Location | None = None) -> StaleEpoch:
    owner = record.owner or here
    if owner is None:
        return StaleEpoch(detail, epoch=record.epoch)
    return StaleEpoch(detail, epoch=record.epoch, owner=owner.node, address=owner.address)


def _check_complete(record: ShardRecord, shard: ShardId, epoch: int) -> None:
    if epoch != record.epoch:
        raise _stale(record, f"the copy of {shard} was prepared for epoch {record.epoch}, not for {epoch}")
    checkpoint = record.checkpoint
    if checkpoint is None or not checkpoint.done or record.position < checkpoint.newest:
        raise ChecksumMismatch(f"the copy of {shard} is not complete: it cannot serve")
