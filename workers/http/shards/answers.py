"""Keyspaces, shards, data nodes, migrations and tasks as API users see them: from the views' rows to plain JSON."""

import time
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from itertools import chain
from typing import Final

from domain.shards.cluster import Cluster
from domain.shards.node import DataNode
from domain.shards.shard import Keyspace
from muster.wire.shards.key import hash_range, key_hash, shard_of
from muster.wire.stream import MIGRATION, saga_name_of
from projections.availability import cause_of, is_unavailable, unavailable
from projections.migrations import MigrationRow
from sagas.drain import DrainPlan
from sagas.tasks import TaskRow
from workers.http.sagas.answers import Item, standing_item, steps_of
from workers.views.shards import ShardViews

_PROGRESS: Final = ("bytes", "bytes_total", "records", "lag_records", "bytes_per_second", "seconds_left")


def keyspace_item(name: str, keyspace: Keyspace, cluster: Cluster) -> Item:
    """A keyspace: its shards by status, limits, open clean-up intents, and how many moves it has had."""
    statuses = Counter(shard.status for shard in keyspace.shards.values())
    return {
        "keyspace": name,
        "shards": keyspace.count,
        "active": statuses["active"],
        "migrating": statuses["migrating"],
        # Shards that were never assigned have no entry among `shards`; they are inactive too.
        "inactive": keyspace.count - statuses["active"] - statuses["migrating"],
        "unavailable": unavailable(keyspace, cluster).total(),
        "value_bytes_max": keyspace.limits.value_bytes_max,
        "shard_bytes_max": keyspace.limits.shard_bytes_max,
        "cleanups": len(keyspace.cleanups),
        "moves": keyspace.moves,
    }


def shard_item(name: str, keyspace: Keyspace, number: int, cluster: Cluster) -> Item:
    """A shard; hashes are 16 hex digits."""
    shard = keyspace.shard(number)
    # Given as text: numbers of 64 bits lose digits in readers of JSON that take all numbers for floats.
    first, last = hash_range(number, keyspace.count)
    cause = cause_of(shard.owner, cluster)
    return {
        "keyspace": name,
        "shard": number,
        "owner": shard.owner,
        "address": _address(cluster, shard.owner),
        "epoch": shard.epoch,
        "status": shard.status,
        "unavailable": is_unavailable(shard.status, cause),
        "cause": cause,
        "fenced": shard.fenced,
        "migration": shard.migration,
        "target": shard.target,
        "pinned": shard.pinned,
        "first_hash": f"{first:016x}",
        "last_hash": f"{last:016x}",
    }


def route_item(name: str, keyspace: Keyspace, key: str, cluster: Cluster) -> Item:
    """Where a key is served. Raises InvalidShardKey."""
    shard = keyspace.shard(shard_of(key, keyspace.count))
    cause = cause_of(shard.owner, cluster)
    return {
        "keyspace": name,
        "key": key,
        "hash": f"{key_hash(key):016x}",
        "shard": shard.id,
        "owner": shard.owner,
        "address": _address(cluster, shard.owner),
        "epoch": shard.epoch,
        "status": shard.status,
        "unavailable": is_unavailable(shard.status, cause),
        "cause": cause,
    }


def _address(cluster: Cluster, node: str | None) -> str | None:
    found = cluster.nodes.get(node) if node is not None else None
    return found.address if found is not None else None


def owned(keyspaces: Iterable[Keyspace]) -> Counter[str]:
    """How many shards each node owns."""
    shards = chain.from_iterable(keyspace.shards.values() for keyspace in keyspaces)
    return Counter(shard.owner for shard in shards if shard.owner is not None)


def held(cluster: Cluster) -> Counter[str]:
    """How many slots for moves are taken on each node."""
    return Counter(node for reservation in cluster.held.values() for node in reservation.nodes)


def node_item(node: DataNode, shards: int, moves: int, plan: DrainPlan) -> Item:
    """A data node, with how many shards it owns, in how many moves it takes part, and what is planned of its drain."""
    return {
        "node": node.id,
        "address": node.address,
        "zone": node.zone,
        "capacity": node.capacity,
        "lease_seconds": node.lease_seconds,
        "alive": node.alive,
        "cordoned": node.cordoned,
        "draining": node.draining,
        "incarnation": node.incarnation,
        "version": node.version,
        "shards": shards,
        "moves": moves,
        "drain_waits_for": plan.waits.get(node.id),
        "drain_places": plan.by if node.draining else None,
    }


def cluster_item(cluster: Cluster) -> Item:
    """The limits, the moves that hold slots, and those that wait for some, in their order."""
    return {
        "node_moves_max": cluster.node_moves_max,
        "cluster_moves_max": cluster.cluster_moves_max,
        "held": [
            {"migration": id_, "source": slots.source, "target": slots.target} for id_, slots in cluster.held.items()
        ],
        "waiting": [
            {"migration": id_, "source": cluster.waiting[id_].source, "target": cluster.waiting[id_].target}
            for id_ in cluster.queue
        ],
    }


def task_item(task: TaskRow, cluster: Cluster) -> Item:
    """A task, with the addresses of the nodes that it names as they are now."""
    # Tasks name other nodes by their ids; the node that carries one out has to reach them too.
    named = {
        name: {"node": task.params[name], "address": _address(cluster, task.params[name])}
        for name in ("source", "owner")
        if isinstance(task.params.get(name), str)
    }
    return {
        "id": task.id,
        "node": task.node,
        "kind": task.kind,
        "keyspace": task.keyspace,
        "shard": task.shard,
        "params": {**task.params, **named},
        "saga": task.saga,
        "step": task.step,
        "attempt": task.attempt,
        "since": task.since,
    }


def is_migration(row: MigrationRow) -> bool:
    """Whether the saga moves a shard."""
    return saga_name_of(row.migration) == MIGRATION


def migration_item(views: ShardViews, row: MigrationRow, now: datetime) -> Item:
    """A migration in a row: where it stands, what it waits for, what may be done, how far its step has come."""
    data = row.data
    return {
        "id": row.migration,
        "keyspace": data.get("keyspace"),
        "shard": data.get("shard"),
        "source": data.get("source"),
        "target": data.get("target"),
        **standing_item(views, row, now),
        "progress": _progress(views, row),
        "weighed": data.get("weighed"),
    }


def migration_whole(views: ShardViews, row: MigrationRow, now: datetime) -> Item:
    """A migration with every step that it has come to."""
    return {**migration_item(views, row, now), "steps": steps_of(views, row, now)}


def _progress(views: ShardViews, row: MigrationRow) -> Item | None:
    progress = views.progress.get(row.migration)
    # The progress of an earlier step says nothing of this one.
    if progress is None or progress["step"] != row.step:
        return None
    return {name: progress.get(name) for name in _PROGRESS}


def progressed(before: Item | None, step: str, attempt: int, facts: Item) -> Item:
    """What is known of a step's progress after a participant's report, with its rate over the last few seconds."""
    now = time.monotonic()
    progress: Item = {"step": step, "attempt": attempt, "at": now}
    progress |= {name: _count(facts.get(name)) for name in ("bytes", "bytes_total", "records", "lag_records")}
    progress |= {"rate_at": now, "rate_bytes": progress["bytes"], "bytes_per_second": None, "seconds_left": None}
    if before is not None and (before["step"], before["attempt"]) == (step, attempt):
        progress |= _rate(before, progress)
    rate, total, done = progress["bytes_per_second"], progress["bytes_total"], progress["bytes"]
    if rate and total is not None and done is not None:
        progress["seconds_left"] = round(max(0, total - done) / rate, 1)
    return progress


def _count(value: object) -> int | None:
    # By its type: a bool is an int as well, and participants may report anything.
    return value if type(value) is int and value >= 0 else None


def _rate(before: Item, progress: Item) -> Item:
    """The smoothed rate: what was measured since the last time counts the more, the longer ago that was."""
    elapsed, was, done = progress["at"] - before["rate_at"], before["rate_bytes"], progress["bytes"]
    # Fewer bytes than before: the copying has begun again, and its rate is measured anew.
    if was is None or done is None or done < was:
        return {}
    # Too short a time to measure: the measurement goes on from where it began, over several reports.
    if elapsed < rate_seconds_min:
        return {name: before[name] for name in ("rate_at", "rate_bytes", "bytes_per_second")}
    measured, known = (done - was) / elapsed, before["bytes_per_second"]
    weight = min(1.0, elapsed / rate_window_seconds)
    return {"bytes_per_second": round(measured if known is None else known + (measured - known) * weight, 1)}


rate_seconds_min: Final = 0.2
rate_window_seconds: Final = 5.0
