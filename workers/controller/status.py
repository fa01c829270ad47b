"""What a controller reports about itself (the body of `/v1/status`), and the last outputs of its health checks."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from infra.log.engine import Engine
from infra.settings import Settings
from infra.steady_clock import SteadyClock
from muster.wire.stream import name_of
from workers.controller.conditions import Conditions
from workers.gateway import Gateway
from workers.health.checker import Checker
from workers.projector.projector import Projector
from workers.views.loads import Loads
from workers.views.snapshotter import Snapshotter
from workers.views.views import Views
from workers.writer.writer import Writer


def status(
    gateway: Gateway,
    settings: Settings,
    engine: Engine,
    writers: Mapping[int, Writer],
    snapshotters: Mapping[int, Snapshotter],
    projector: Projector | None,
    checker: Checker,
    conditions: Conditions,
) -> dict[str, Any]:
    """Role, log, the live controllers that share it, the partitions (state, term, positions, ages, voids, command ids, snapshot),
    parked rows, projector, checks, and what is not as it should be.
    """
    views = gateway.views
    states = {writer.state for writer in writers.values()}
    role = "writer" if "reigning" in states else "standby" if "following" in states else min(states, default="reader")
    return {
        "cluster": settings.cluster,
        "controller": settings.controller,
        "role": role,
        "log": engine.description,
        "controllers": [{"controller": one.controller, "url": one.url} for one in gateway.controllers()],
        "partitions": [_partition(views, writer, snapshotters[number]) for number, writer in sorted(writers.items())],
        "parked": [
            {"projection": name, "key": list(key), "position": parked.position, "reason": parked.reason}
            for (name, key), parked in views.parked.items()
        ],
        "projector": projector.status() if projector is not None else None,
        "checks": asdict(checker.stats),
        "conditions": [
            {"kind": each.kind, "subject": each.subject, "since": each.since, **each.facts} for each in conditions.now()
        ],
    }


def check_outputs(checker: Checker, views: Views, stream: str, instance: str) -> dict[str, Any]:
    """The last output of each check of the instance that runs here and has put something out, by the check's name.

    `not_checked_since` stands with those that have come to no result for longer than their interval allows.
    """
    known = views.instances.get(name_of(stream), {}).get(instance)
    found: dict[str, dict[str, object]] = {}
    for name in known.checks if known is not None else ():
        output, since = checker.output(stream, instance, name), checker.not_checked_since(stream, instance, name)
        if output is not None:
            found[name] = asdict(output)
        if since is not None:
            found[name] = found.get(name, {}) | {"not_checked_since": since}
    return found


def telemetry_status(loads: Loads) -> dict[str, object]:
    """The telemetry workers that are there, or were until lately, and how far each is behind."""
    return {
        "telemetry": [
            {
                "worker": seen.worker.worker,
                "state": seen.state,
                "age_seconds": round(seen.age_seconds, 1),
                "partitions": list(seen.worker.partitions),
                "reading": list(seen.worker.reading),
                "instances": seen.worker.instances,
                "silent": seen.worker.silent,
                "lag_seconds": seen.worker.lag_seconds,
                "messages_per_second": seen.worker.messages_per_second,
                "refused": seen.worker.refused,
            }
            for seen in loads.workers()
        ]
    }


def clock_status(clock: SteadyClock) -> dict[str, object]:
    """How the clock of this machine has jumped, and by how much events do not follow it yet."""
    return {
        "clock": {
            "jumps": clock.jumps,
            "last_jump_seconds": clock.last_jump_seconds,
            "held_back_seconds": clock.held_back_seconds,
        }
    }


def _partition(views: Views, writer: Writer, snapshotter: Snapshotter) -> dict[str, Any]:
    partition, number = writer.partition, writer.number
    cursor, since = views.cursors[number], partition.ids.since()
    # Where the log is ahead of the clock, a window has no length that could be told.
    now = datetime.now(UTC)
    return {
        "partition": number,
        "state": writer.state,
        "detail": writer.detail,
        "refused": writer.refused(),
        "term": cursor.term,
        "writer": cursor.writer,
        "position": partition.cursor.position,
        "view_position": cursor.position,
        "view_age_seconds": round(views.age_seconds(number), 3),
        "voids": views.voids[number],
        "waiting_commands": writer.waiting,
        "timers": len(partition.deadlines),
        "command_ids": len(partition.ids),
        "command_ids_window_seconds": None if since is None else max(0.0, round((now - since).total_seconds(), 1)),
        "log_ahead_seconds": max(0.0, round((partition.last_at - now).total_seconds(), 1)),
        "commands_offset": partition.commands_offset,
        # Since this process started: the log has only where reading goes on.
        "commands_lost": writer.commands_lost,
        "commands_detail": writer.commands_detail,
        "snapshot_position": snapshotter.position,
        "snapshot_failures": snapshotter.failures,
        "storage_failure": writer.failing,
    }
