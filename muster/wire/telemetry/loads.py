"""The load of services, and the telemetry workers that tell it: what stands in `<prefix>.loads`, the newest of each key.

service/<name>        a `ServiceLoad`, once a second while anything is heard of the service
instances/<name>      `SeenInstances`, every five seconds while clients say what they see of the service's instances
telemetry/<worker>    a `TelemetryWorker`, once a second while the worker runs; it says when it leaves
shards/<node>         the loads of a data node's shards; see `muster.wire.telemetry.shard_loads`
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from muster.wire.error import InvalidCommand
from muster.wire.problem import first_fault
from muster.wire.stream import SERVICE, service_stream

TELEMETRY: Final = "telemetry"
"""What the keys of workers begin with, before the first slash."""

INSTANCES: Final = "instances"
"""What the keys of instances that clients saw begin with, before the first slash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsWord:
    """What clients have seen of an instance whose checks are in doubt. `clients`: on so many hosts something has called it in the
    last 10 s; since the doubt began, so many of them saw its newest calls fail, and so many saw it answer.
    """

    instance: str
    incarnation: int
    clients: int
    failing: int
    answering: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLoad:
    """What the instances of a service say of their load, together, over the last 30 s; and what its clients saw of them.

    `instances` are those whose heartbeats come by the topic, `heard` how many of them were heard in these 30 s. `in_flight` is
    the sum of what each last said; `per_second` and `failures_per_second` are sums of means; `utilisation` is a mean. None: no
    instance has said it. `at` is when Kafka recorded the newest beat that is in it.

    Of heartbeats over HTTP it is what each instance last said: `instances` and `heard` are those that have said something.

    `observers` are the clients that have reported calls in the last 10 s (None: nobody has): `attempts_per_second` is the sum of
    theirs, `failure_share` how many of these failed (1.0 is all), `latency_seconds` the mean time to an answer. `suspected` is
    what they say of instances whose checks fail together.
    """

    service: str
    instances: int
    heard: int
    in_flight: float | None = None
    per_second: float | None = None
    failures_per_second: float | None = None
    utilisation: float | None = None
    observers: int | None = None
    attempts_per_second: float | None = None
    failure_share: float | None = None
    latency_seconds: float | None = None
    suspected: tuple[ClientsWord, ...] = ()
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLoads:
    """The loads of services, by their names; a service of which nothing is heard is not among them."""

    items: tuple[ServiceLoad, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenInstance:
    """What the clients of an instance say that they saw of it, in their last reports of the last 10 s.

    `observers` are those that called it; `attempts_per_second` is the sum of their calls, `failure_share` how many of these
    failed (1.0 is all), `latency_seconds` the mean time to an answer (None: none was timed). `in_flight` is what the instance
    says of itself with its heartbeats (None: it does not).
    """

    instance: str
    incarnation: int
    observers: int
    attempts_per_second: float
    failure_share: float
    latency_seconds: float | None = None
    in_flight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenInstances:
    """What clients saw of the instances of a service, up to 50 of them: those that fail most first, then the slowest."""

    service: str
    items: tuple[SeenInstance, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceLoads:
    """What clients saw of the instances of the service that was asked for: those that fail most first, then the slowest."""

    instances: tuple[SeenInstance, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryWorker:
    """A worker of `muster telemetry`: which partitions it has, and how far it is behind.

    `instances` are those that it watches; `silent` how many of them have fallen silent and are still there. `lag_seconds` is how
    old the newest record is that it has judged (None: it has no partition, or is still reading again what was before it).
    `messages_per_second` of the last second; `refused` counts messages that could not be read, since its start.
    """

    worker: str
    state: Literal["running", "leaving"]
    partitions: tuple[int, ...]
    reading: tuple[int, ...] = ()
    instances: int
    silent: int
    lag_seconds: float | None
    messages_per_second: float
    refused: int
    at: datetime


LoadRow = ServiceLoad | SeenInstances | TelemetryWorker
SERVICE_LOADS: Final = TypeAdapter(ServiceLoads)
INSTANCE_LOADS: Final = TypeAdapter(InstanceLoads)
_ROWS: Final[dict[str, TypeAdapter[LoadRow]]] = {
    SERVICE: TypeAdapter(ServiceLoad),
    INSTANCES: TypeAdapter(SeenInstances),
    TELEMETRY: TypeAdapter(TelemetryWorker),
}


def key_of(row: LoadRow) -> str:
    """The key of the row's record."""
    match row:
        case ServiceLoad():
            return service_stream(row.service)
        case SeenInstances():
            return f"{INSTANCES}/{row.service}"
        case TelemetryWorker():
            return f"{TELEMETRY}/{row.worker}"


def encode_row(row: LoadRow) -> bytes:
    """The row as it stands in the topic."""
    return orjson.dumps(row)


def decode_row(key: bytes, value: bytes) -> LoadRow | None:
    """The row of a record; None: of a kind that only newer versions know. Raises InvalidCommand."""
    kind = key.partition(b"/")[0].decode(errors="replace")
    if kind not in _ROWS:
        return None
    try:
        return _ROWS[kind].validate_json(value)
    except ValidationError as error:
        field, reason = first_fault(error)
        raise InvalidCommand(f"{field or kind}: {reason}", field=field or kind) from None
