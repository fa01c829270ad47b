"""Examples for the documents, made by the code itself: commands go through a partition machine with a standing clock."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from domain import service
from infra.chain import Chain, term_started
from infra.codec import CloudEventMapper
from infra.log import START
from workers.partition import Partition
from workers.wire import envelope_from, outcome

SOURCE: Final = "/muster/default"
WRITER: Final = "controller-1/5f0c3a9e"
_AT: Final = datetime(2026, 1, 5, 3, 12, tzinfo=UTC)
_ACTOR: Final = {"actor": "deploy@ci"}

SPEC: Final[dict[str, Any]] = {
    "address": "10.0.0.7",
    "port": 8080,
    "metadata": {"version": "1.4.2"},
    "tags": ["blue"],
    "zone": "eu-1a",
    "weight": 10,
    "checks": [
        {"kind": "http", "url": "http://10.0.0.7:8080/health", "interval_seconds": 5.0, "timeout_seconds": 1.0},
        {"kind": "ttl", "name": "worker", "ttl_seconds": 30.0},
    ],
    "lease_seconds": 60.0,
}


def _command(number: int, type_name: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": f"example-{number}",
        "type": type_name,
        "stream": "service/orders",
        "data": {"instance": "orders-1", **data},
        **more,
    }


COMMANDS: Final = (
    _command(1, service.RegisterInstance.type, {"spec": SPEC}, **_ACTOR, reason="release 1.4.2"),
    _command(2, service.Heartbeat.type, {"incarnation": 0}),
    _command(3, service.Heartbeat.type, {}),
    _command(4, service.ReportHealth.type, {"status": "unhealthy", "cause": "replication lag 40 s"}, actor="orders-1"),
    _command(5, service.DrainInstance.type, {}, **_ACTOR, reason="host eu-1a-17 is replaced", expected_version=2),
    _command(6, service.UndrainInstance.type, {}, **_ACTOR),
    _command(7, service.SetMaintenance.type, {}, actor="ops@example.org", reason="disk swap"),
    _command(8, service.ClearMaintenance.type, {}, actor="ops@example.org"),
    _command(9, service.DeregisterInstance.type, {"incarnation": 0}, **_ACTOR, reason="scaled down"),
    _command(10, service.Heartbeat.type, {}),
)
"""One after the other on an empty log: the second heartbeat changes nothing, the last one is refused."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the commands lead to: records of the log as documents, in order, and an outcome for each command."""

    records: tuple[dict[str, Any], ...]
    outcomes: tuple[dict[str, Any], ...]


def run() -> Told:
    """Run the commands on an empty log, each as a batch of its own."""
    partition = Partition(0, CloudEventMapper(SOURCE))
    start = term_started(START, WRITER, _AT, SOURCE)
    records: list[dict[str, Any]] = [orjson.loads(start.state)]
    outcomes = []
    for batch in Chain(0, START).follow([(0, start.originator_id.encode(), start.state)]):
        partition.fold(batch)
    partition.begin(partition.cursor, 0)
    for number, command in enumerate(COMMANDS):
        partition.open(_AT)
        answer = partition.handle(envelope_from(command), offset=number)
        stored, _, cursor = partition.close()
        partition.commit(cursor)
        records += [orjson.loads(record.state) for record in stored]
        outcomes.append(outcome(answer))
    return Told(tuple(records), tuple(outcomes))
