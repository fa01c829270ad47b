"""One plausible message of every kind, and small builders, for tests that need any message at all."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from eventsourcing.persistence import StoredEvent

from domain.message import Event, Recorded, to_json
from domain.registry import service as s
from domain.registry.doubt.event import InstanceChecksBelieved, InstanceChecksDisputed, InstanceSeenAnswering
from domain.registry.doubt.opinion import WeighClients
from domain.registry.instance import (
    InstanceAddressChanged,
    InstanceCheckChanged,
    InstanceChecksChanged,
    InstanceDeregisterAfterChanged,
    InstanceDeregistered,
    InstanceDrainEnded,
    InstanceDrainStarted,
    InstanceHealthChanged,
    InstanceHeartbeatsChanged,
    InstanceLeaseChanged,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    InstanceMetadataChanged,
    InstanceRegistered,
    InstanceTagsChanged,
    InstanceWeightChanged,
    InstanceZoneChanged,
    LeaseExpired,
)
from domain.registry.silence import BeatHeard, ReportSilence, Silence
from infra.log.chain import Chain, term_started
from infra.log.codec import CloudEventMapper, Draft
from infra.log.port import START, Batch, Cursor
from muster.wire.command import Command, Envelope
from muster.wire.registry.check import HttpCheck, TcpCheck, TtlCheck
from muster.wire.registry.spec import Spec
from muster.wire.telemetry.loads import ClientsWord
from workers.machine.partition import Partition

NOON: Final = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)

HTTP: Final = HttpCheck(
    url="http://10.0.0.7:8080/health", name="ready", headers={"accept": "text/plain"}, expected_status=200
)
TCP: Final = TcpCheck(host="10.0.0.7", port=8080, name="port")
TTL: Final = TtlCheck(ttl_seconds=5.0, name="ttl")

PLAIN: Final = Spec(address="10.0.0.7", port=8080)
FULL: Final = Spec(
    address="10.0.0.7",
    port=8080,
    metadata={"version": "1.4.2", "owner": "käse"},
    tags=("blue", "canary"),
    zone="eu-1a",
    weight=10,
    checks=(HTTP, TCP, TTL),
    lease_seconds=30.0,
    deregister_after_seconds=3600.0,
)

EVENTS: Final[tuple[Event, ...]] = (
    InstanceRegistered(instance="a", incarnation=0, spec=FULL, health="unknown"),
    InstanceAddressChanged(instance="a", address="10.0.0.8", port=9090),
    InstanceMetadataChanged(instance="a", metadata={"version": "1.4.3"}),
    InstanceTagsChanged(instance="a", tags=("green",)),
    InstanceZoneChanged(instance="a", zone="eu-1b"),
    InstanceWeightChanged(instance="a", weight=3),
    InstanceLeaseChanged(instance="a", lease_seconds=None),
    InstanceDeregisterAfterChanged(instance="a", deregister_after_seconds=60.0),
    InstanceHeartbeatsChanged(instance="a", heartbeats="topic"),
    InstanceChecksChanged(instance="a", checks=(HTTP, TTL)),
    InstanceCheckChanged(instance="a", check="port", was="unknown", to="healthy", cause=None),
    InstanceMaintenanceSet(instance="a"),
    InstanceMaintenanceCleared(instance="a"),
    InstanceDrainStarted(instance="a"),
    InstanceDrainEnded(instance="a"),
    InstanceChecksDisputed(instance="a", seconds=30.0, fallen=6, healthy=4),
    InstanceSeenAnswering(instance="a", clients=4, answering=3),
    InstanceChecksBelieved(instance="a", because="time"),
    LeaseExpired(instance="a", incarnation=0, lease_seconds=30.0),
    InstanceHealthChanged(
        instance="a", was="unknown", to="unhealthy", cause="503 from /health", check="ready", check_status="unhealthy"
    ),
    InstanceDeregistered(instance="a", incarnation=0, cause="lease_expired", health="unhealthy"),
)
"""One of every type, in the order of the catalogue."""

COMMANDS: Final[tuple[Command, ...]] = (
    s.RegisterInstance(instance="a", spec=FULL),
    s.DeregisterInstance(instance="a", incarnation=0),
    s.ReportHealth(instance="a", status="unhealthy", cause="disk full", incarnation=0),
    s.Heartbeat(instance="a"),
    s.SetMaintenance(instance="a"),
    s.ClearMaintenance(instance="a"),
    s.DrainInstance(instance="a"),
    s.UndrainInstance(instance="a"),
    s.BelieveChecks(instances=("a",)),
    ReportSilence(
        silent=(Silence(instance="a", incarnation=0, since=NOON, check="ttl"),),
        present=(BeatHeard(instance="b", incarnation=3, at=NOON),),
    ),
    s.ObserveCheck(instance="a", incarnation=0, check="ready", status="healthy", cause="200"),
    s.ExpireLease(instance="a", incarnation=0),
    s.ExpireTtl(instance="a", incarnation=0, check="ttl"),
    s.ExpireUnhealthy(instance="a", incarnation=0),
    s.ExpireDoubt(instance="a", incarnation=0),
    WeighClients(words=(ClientsWord(instance="a", incarnation=0, clients=4, failing=0, answering=3),)),
)
"""One of every type, the internal ones last."""


def spec(base: Spec = PLAIN, **changes: Any) -> Spec:
    """The spec with these fields changed."""
    return replace(base, **changes)


def registered(instance: str = "a", *, incarnation: int = 0, **changes: Any) -> InstanceRegistered:
    """The event of a registration; with checks the health is unknown."""
    what = spec(**changes)
    return InstanceRegistered(
        instance=instance, incarnation=incarnation, spec=what, health="unknown" if what.checks else "healthy"
    )


def register(instance: str = "a", id_: str = "1", *, service: str = "orders", **changes: Any) -> Envelope:
    """A command to register, in its envelope."""
    return envelope(id_, s.RegisterInstance(instance=instance, spec=spec(**changes)), service=service)


def envelope(id_: str, command: Command, *, service: str = "orders", version: int | None = None) -> Envelope:
    """A command in its envelope."""
    return Envelope(id_, f"service/{service}", command, actor="ann", reason="because", expected_version=version)


def recorded(event: Event, position: int = 1, version: int = 0, id_: str = "1", at: datetime = NOON) -> Recorded:
    """An event with its place in history."""
    return Recorded(0, position, "service/orders", version, at, event, f"{id_}:0", id_, "trace-7", "ann", "because")


def evolved(state: s.Service, event: Event) -> s.Service:
    """The service after the event, which is recorded as its next."""
    return s.evolve(state, recorded(event, state.version, state.version))


def reigning(number: int = 0, **limits: int) -> Partition:
    """A partition machine whose writer has just started the first term of an empty log."""
    partition = Partition(number, CloudEventMapper(), **limits)
    started = term_batch(partition.cursor)
    partition.fold(started)
    partition.begin(started.cursor, 0.0)
    return partition


def term_batch(after: Cursor = START, writer: str = "w1") -> Batch:
    """The batch that a reader makes of a `TermStarted`."""
    marker = term_started(after, writer, NOON, "/muster/default")
    [batch] = Chain(0, after).follow([(marker.originator_version, None, marker.state)])
    return batch


def sealed_batch(cursor: Cursor, *events: Event, commands: str = "c") -> tuple[list[StoredEvent], Cursor]:
    """The events as one sealed batch on the cursor, and the cursor behind it."""
    drafts = []
    for index, event in enumerate(events):
        told = recorded(event, cursor.position + 1 + index, index, f"{commands}{index}")
        drafts.append(Draft(told, "00" * 8, to_json(event)))
    return CloudEventMapper().seal(drafts, cursor, None)
