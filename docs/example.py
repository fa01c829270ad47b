"""Examples for the documents, made by the code itself: commands go through a partition machine with a standing clock."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from domain import saga
from domain.groups import commands as groups
from domain.groups import member
from domain.registry import service, silence, traffic
from domain.shards import keyspace, node
from infra.log.chain import Chain, term_started
from infra.log.codec import CloudEventMapper
from infra.log.port import START
from workers.machine.partition import Partition
from workers.writer.published import envelope_from, outcome

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
    return _to("service/orders", number, type_name, {"instance": "orders-1", **data}, **more)


def _to(stream: str, number: int, type_name: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": f"example-{number}", "type": type_name, "stream": stream, "data": data, **more}


def _node(name: str, host: str) -> dict[str, Any]:
    return {
        "node": name,
        "address": f"{host}:7400",
        "zone": "eu-1a",
        "lease_seconds": 60.0,
        "process": f"{name}-31f7",
        "store": f"{name}-disk",
    }


def _of(member: str, **data: Any) -> dict[str, Any]:
    return {"member": member, **data}


_GROUP: Final = "group/db"
_OPS: Final = {"actor": "ops@example.org"}
_KEYSPACE: Final = "keyspace/users"
_MIGRATION: Final = "keyspace/users/migration/1"

_INSTANCES: Final = (
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
_NODES: Final = (
    _to("cluster", 11, node.JoinNode.type, _node("n1", "10.0.0.11"), actor="n1"),
    _to("cluster", 12, node.JoinNode.type, _node("n2", "10.0.0.12"), actor="n2"),
    _to("cluster", 13, node.JoinNode.type, _node("n3", "10.0.0.13"), actor="n3"),
    _to("cluster", 14, node.RenewNode.type, {"node": "n1", "incarnation": 0}, actor="n1"),
    _to("cluster", 15, node.SetMoveLimits.type, {"node_moves_max": 2, "cluster_moves_max": 8}, **_OPS),
    _to("cluster", 16, node.CordonNode.type, {"node": "n3"}, **_OPS, reason="kernel update"),
    _to("cluster", 17, node.UncordonNode.type, {"node": "n3"}, **_OPS),
    _to("cluster", 18, node.DrainNode.type, {"node": "n3"}, **_OPS, reason="host eu-1a-17 is replaced"),
    _to("cluster", 19, node.UndrainNode.type, {"node": "n3"}, **_OPS),
    _to("cluster", 20, node.RemoveNode.type, {"node": "n3"}, **_OPS, reason="its disk is lost"),
)
_SHARDS: Final = (
    _to(_KEYSPACE, 21, keyspace.CreateKeyspace.type, {"shards": 2}, **_OPS),
    _to(_KEYSPACE, 22, keyspace.AssignShards.type, {"nodes": ["n1"]}, **_OPS),
    _to(_KEYSPACE, 23, keyspace.ReportOpened.type, {"shard": 0, "node": "n1", "epoch": 1}, actor="n1"),
    _to(_KEYSPACE, 24, keyspace.ReportOpened.type, {"shard": 1, "node": "n1", "epoch": 1}, actor="n1"),
    _to(_KEYSPACE, 25, keyspace.PinShard.type, {"shard": 0}, **_OPS),
    _to(_KEYSPACE, 26, keyspace.UnpinShard.type, {"shard": 0}, **_OPS),
    _to(_KEYSPACE, 27, keyspace.MoveShard.type, {"shard": 0, "target": "n2"}, **_OPS, reason="n1 is full"),
)
_MOVE: Final = (
    _to(_MIGRATION, 28, saga.PauseSaga.type, {}, **_OPS, reason="wait for the backup"),
    _to(_MIGRATION, 29, saga.ResumeSaga.type, {}, **_OPS),
    _to(_MIGRATION, 30, saga.ReportProgress.type, {"step": "copy", "attempt": 1, "node": "n2"}, actor="n2"),
    _to(_MIGRATION, 31, saga.ReportStep.type, {"step": "copy", "attempt": 1, "node": "n2", "outcome": "done"}),
    _to(_MIGRATION, 32, saga.RetryStep.type, {}, **_OPS),
    _to(_MIGRATION, 33, saga.SkipStep.type, {"step": "plan"}, **_OPS),
    _to(_MIGRATION, 34, saga.ForceComplete.type, {}, **_OPS),
    _to(_MIGRATION, 35, saga.UpgradeSaga.type, {"version": 1}, **_OPS),
    _to(_MIGRATION, 36, saga.AbortSaga.type, {}, **_OPS, reason="n2 is needed for something else"),
    _to(_KEYSPACE, 37, keyspace.ReportDropped.type, {"shard": 0, "node": "n2", "migration": _MIGRATION}, actor="n2"),
)
_GROUPS: Final = (
    _to(
        _GROUP,
        38,
        groups.CreateGroup.type,
        {"members": [{"member": "db1"}, {"member": "db2", "priority": 10}], "max_lag": 1_048_576},
        **_OPS,
    ),
    _to(_GROUP, 39, groups.AddMember.type, {"member": "db3", "priority": 5}, **_OPS),
    _to(_GROUP, 40, member.JoinGroup.type, _of("db1", process="db1-31f7", address="10.0.0.21:5432"), actor="db1"),
    _to(_GROUP, 41, member.ReportMember.type, _of("db1", incarnation=4, outcome="ready"), actor="db1"),
    _to(_GROUP, 42, member.RenewMember.type, _of("db1", incarnation=4), actor="db1"),
    _to(_GROUP, 43, groups.Failover.type, {"to": "db1"}, **_OPS, reason="the first primary"),
    _to(_GROUP, 44, member.ReportServing.type, _of("db1", incarnation=4, epoch=1), actor="db1"),
    _to(_GROUP, 45, member.ReportPosition.type, _of("db1", incarnation=4, epoch=1, position=50_331_648), actor="db1"),
    _to(
        _GROUP,
        46,
        member.ChangeInSync.type,
        _of("db1", incarnation=4, epoch=1, version=1, in_sync=["db1", "db2"], cause="caught_up"),
        actor="db1",
    ),
    _to(_GROUP, 47, groups.SetGroup.type, {"hold_down_seconds": 60.0}, **_OPS),
    _to(_GROUP, 48, groups.PauseGroup.type, {}, **_OPS, reason="the network is being changed"),
    _to(_GROUP, 49, groups.ResumeGroup.type, {}, **_OPS),
    _to(
        _GROUP,
        50,
        member.ReportEnded.type,
        _of("db1", incarnation=4, epoch=1, how="seen", detail="exit code 137"),
        actor="db1",
    ),
    _to(
        _GROUP,
        51,
        member.ReportFenced.type,
        _of("db1", incarnation=4, epoch=1, attempt=1, outcome="failed", detail="exit code 1"),
        actor="db1",
    ),
    _to(_GROUP, 52, groups.RemoveMember.type, {"member": "db3"}, **_OPS, reason="its host is gone"),
    _to(_GROUP, 53, groups.DeleteGroup.type, {"force": True}, **_OPS),
)
_TELEMETRY: Final = (
    _to(
        "service/orders",
        57,
        silence.ReportSilence.type,
        {
            "silent": [{"instance": "orders-1", "incarnation": 0, "since": "2026-01-05T03:11:49.210Z"}],
            "present": [{"instance": "orders-2", "incarnation": 4, "at": "2026-01-05T03:11:59.870Z"}],
        },
        actor="telemetry/host-7",
    ),
)
_DOUBTS: Final = (
    # Of an instance that is not there any more by then: it is refused.
    _to(
        "service/orders", 56, service.BelieveChecks.type, {"instances": ["orders-1"]}, **_OPS, reason="the rack is dark"
    ),
)
_TRAFFIC: Final = (
    _to("traffic/orders", 54, traffic.SetTraffic.type, {"policy": "round_robin"}, **_OPS, reason="all hosts are alike"),
    _to(
        "traffic/orders",
        55,
        traffic.SetTraffic.type,
        {
            "slow_start_seconds": 30.0,
            "eject_after": 3,
            "eject_seconds": 10.0,
            "in_flight_max": 500,
            "retry_share": 0.1,
            "report_seconds": 10.0,
            "default": ["policy"],
        },
        **_OPS,
    ),
)
COMMANDS: Final = (*_INSTANCES, *_NODES, *_SHARDS, *_MOVE, *_GROUPS, *_TELEMETRY, *_TRAFFIC, *_DOUBTS)
"""One after the other on an empty log. Some change nothing (the second heartbeat, a report that comes too early), some are
refused: the last heartbeat, and the force-complete of a migration that can still turn back.
"""


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
        group = partition.step(_AT, [(envelope_from(command), number)])
        partition.commit(group)
        records += [orjson.loads(record.state) for record in group.batch]
        outcomes.append(outcome(group.answers[0]))
    return Told(tuple(records), tuple(outcomes))
