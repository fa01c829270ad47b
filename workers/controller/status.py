"""What a controller says of itself: the body of `/v1/status`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from infra.log.engine import Engine
from workers.views.snapshotter import Snapshotter
from workers.views.views import Views
from workers.writer.writer import Writer


def status(
    cluster: str,
    controller: str,
    engine: Engine,
    views: Views,
    writers: Mapping[int, Writer],
    snapshotters: Mapping[int, Snapshotter],
) -> dict[str, Any]:
    """Role, log, and per partition: state, term, positions, ages, voids, command ids and snapshot."""
    states = {writer.state for writer in writers.values()}
    role = "writer" if "reigning" in states else "standby" if "following" in states else min(states, default="reader")
    return {
        "cluster": cluster,
        "controller": controller,
        "role": role,
        "log": engine.description,
        "partitions": [_partition(views, writer, snapshotters[number]) for number, writer in sorted(writers.items())],
        "parked": [
            {"projection": name, "key": list(key), "position": parked.position, "reason": parked.reason}
            for (name, key), parked in views.parked.items()
        ],
    }


def _partition(views: Views, writer: Writer, snapshotter: Snapshotter) -> dict[str, Any]:
    partition, number = writer.partition, writer.number
    cursor, since = views.cursors[number], partition.ids.since()
    return {
        "partition": number,
        "state": writer.state,
        "detail": writer.detail,
        "term": cursor.term,
        "writer": cursor.writer,
        "position": partition.cursor.position,
        "view_position": cursor.position,
        "view_age_seconds": round(views.age_seconds(number), 3),
        "voids": views.voids[number],
        "waiting_commands": writer.waiting,
        "timers": len(partition.deadlines),
        "command_ids": len(partition.ids),
        "command_ids_window_seconds": None if since is None else round((datetime.now(UTC) - since).total_seconds(), 1),
        "commands_offset": partition.commands_offset,
        "snapshot_position": snapshotter.position,
    }
