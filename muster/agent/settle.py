"""Brings a node's copies in line with the shard map before it serves: fences, retires, activates or drops them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, NamedTuple

from muster.client.control.shards import ShardControl
from muster.client.controllers.known import backoff_seconds
from muster.wire.error import Refused, Transient
from muster.wire.shards.answers import Shard
from muster.wire.shards.driver import Location, ShardDriver, ShardId, ShardLimits
from muster.wire.value import value

_LOG: Final = logging.getLogger("muster.agent")


@value
class LocalShard:
    """A copy on this node. `epoch` is the highest it has seen; for a hidden copy, the one that it was prepared for."""

    shard: ShardId
    epoch: int
    state: Literal["hidden", "serving", "fenced", "retired"]


Local = Callable[[], Awaitable[Sequence[LocalShard]]]


class Fence(NamedTuple):
    """Acknowledge no write at or below the epoch any more."""

    epoch: int


class Activate(NamedTuple):
    """Serve with the epoch."""

    epoch: int


class Retire(NamedTuple):
    """Another node, the owner, serves with the epoch."""

    epoch: int
    owner: Location


class Drop(NamedTuple):
    """Delete this copy: it was made for a move that ended while the node was not part of the cluster."""

    epoch: int


class Distrust(NamedTuple):
    """Touch nothing: the map does not explain this copy, which serves with this epoch. It may belong to another cluster."""

    epoch: int


Correction = Fence | Activate | Retire | Drop | Distrust


def correction(copy: LocalShard, node: str, shard: Shard | None) -> Correction | None:
    """What the node has to do with its copy, given the shard's row in the map (None: the map does not have the shard)."""
    match copy.state:
        case "retired":
            return None
        case "hidden":
            # A move commits only after this copy has everything, and a later move would have prepared another copy: so when
            # the map has this copy's epoch, it is complete.
            if shard is None or shard.owner is None:
                return None
            if shard.owner != node:
                return Drop(copy.epoch) if shard.migration is None else None
            return Activate(copy.epoch) if shard.epoch == copy.epoch and not shard.fenced else None
        case "fenced" | "serving":
            return _of_owner(copy, node, shard)


def _of_owner(copy: LocalShard, node: str, shard: Shard | None) -> Correction | None:
    if shard is None or shard.owner is None or shard.epoch < copy.epoch:
        return Distrust(copy.epoch) if copy.state == "serving" else None
    if shard.epoch > copy.epoch:
        if shard.owner != node:
            return Retire(shard.epoch, Location(shard.owner, shard.address or ""))
        # The epoch of an owner grows only by an abort: had the shard left and come back, the copy would be a hidden one.
        return Fence(shard.epoch) if shard.fenced else Activate(shard.epoch)
    if copy.state == "fenced":
        return None
    if shard.owner != node:
        return Distrust(copy.epoch)
    return Fence(copy.epoch) if shard.fenced else None


async def settle(driver: ShardDriver, node: str, local: Local, shards: ShardControl) -> None:
    """Return when no copy here would serve against the map, as the map was after this call began."""
    tries = 0
    while True:
        try:
            if await _compare(driver, node, local, shards):
                return
            _LOG.warning("%s has copies that do not agree with the shard map, and serves none", node)
        except Transient as error:
            _LOG.warning("%s cannot compare its shards with the map, and serves none: %s", node, error.detail)
        await asyncio.sleep(backoff_seconds(tries))
        tries += 1


async def _compare(driver: ShardDriver, node: str, local: Local, shards: ShardControl) -> bool:
    """Correct the copies that need it. Returns whether no copy can do harm any more."""
    copies = [copy for copy in await local() if copy.state != "retired"]
    if not copies:
        return True
    # Strong reads: what was decided before the renewal was answered must be in them.
    page = await shards.keyspaces(consistency="strong")
    limits = {row.keyspace: ShardLimits(row.value_bytes_max, row.shard_bytes_max) for row in page.items}
    known: dict[ShardId, Shard] = {}
    for keyspace in sorted({copy.shard.keyspace for copy in copies} & limits.keys()):
        rows = (await shards.shard_map(keyspace, consistency="strong")).items
        known |= {ShardId(keyspace, row.shard): row for row in rows}
    safe = True
    for copy in copies:
        wanted = correction(copy, node, known.get(copy.shard))
        if wanted is not None:
            safe &= await _correct(driver, copy.shard, wanted, limits.get(copy.shard.keyspace, ShardLimits()))
    return safe


async def _correct(driver: ShardDriver, shard: ShardId, wanted: Correction, limits: ShardLimits) -> bool:
    """Correct one copy. Returns whether it can do no harm now; a copy that cannot serve yet does none."""
    if isinstance(wanted, Distrust):
        _LOG.error("%s serves here with epoch %d, which the shard map cannot explain", shard, wanted.epoch)
        return False
    _LOG.info("%s: %s, as the shard map says", shard, wanted)
    try:
        match wanted:
            case Fence(epoch):
                await driver.fence(shard, epoch)
            case Retire(epoch, owner):
                await driver.retire(shard, epoch, owner)
            case Activate(epoch):
                await driver.activate(shard, epoch, limits)
            case Drop(epoch):
                await driver.drop(shard, epoch)
    except Refused as refusal:
        _LOG.warning("%s: %s was refused: %s", shard, wanted, refusal.detail)
        return isinstance(wanted, Activate | Drop)
    return True
