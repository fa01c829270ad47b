"""The messages of telemetry in the AsyncAPI document: heartbeats, what clients saw, ticks, loads, workers."""

from datetime import UTC, datetime
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from muster.wire.stream import NAME_PATTERN
from muster.wire.telemetry.heartbeats import Beat, encode, items_max, number_max
from muster.wire.telemetry.loads import LoadRow, SeenInstance, SeenInstances, ServiceLoad, TelemetryWorker, encode_row
from muster.wire.telemetry.observations import (
    REPORT_SECONDS_MIN,
    Observation,
    Observations,
    count_max,
    host_chars_max,
    observed_max,
    report_seconds_max,
)
from muster.wire.telemetry.observations import encode as encode_observations
from muster.wire.telemetry.shard_loads import NodeLoads, ToldShard, told_bytes_max
from muster.wire.telemetry.shard_loads import encode as encode_node

Json = dict[str, Any]


def telemetry_messages() -> tuple[Json, ...]:
    """All of them."""
    return _heartbeats(), _observations(), _tick(), _load(), _instances(), _worker(), _node_loads()


_LIVE: Final = datetime(2026, 1, 5, 3, 12, tzinfo=UTC)


def _heartbeats() -> Json:
    beats = [Beat("orders-1", 4, 12, 310.5, 0.5, 0.61), Beat("orders-2", 9)]
    number = {"type": ["number", "null"], "minimum": 0, "maximum": number_max}
    item = [{"type": "string"}, {"type": "integer", "minimum": 0}, number, number, number, number]
    return {
        "name": "heartbeats",
        "title": "Heartbeats",
        "summary": "Signs of life of many instances of a service, with their load; once a second, 50 or more in a message",
        "description": (
            "An item is [instance, incarnation, in_flight, per_second, failures, utilisation]; the last four may be left out "
            "from the end, or be null: unknown. Of instances whose spec says `heartbeats: topic`; others are passed over."
        ),
        "bindings": _key("service/<name>"),
        "payload": {
            "type": "object",
            "required": ["agent", "service", "items"],
            "additionalProperties": False,
            "properties": {
                "agent": {"type": "string", "pattern": NAME_PATTERN, "description": "Who sends it, like the host"},
                "service": {"type": "string", "pattern": NAME_PATTERN},
                "items": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": items_max,
                    "items": {"type": "array", "minItems": 2, "maxItems": 6, "prefixItems": item},
                },
            },
        },
        "examples": [_example("heartbeats", orjson.loads(encode("host-7", "orders", beats)))],
    }


def _observations() -> Json:
    seen = [Observation("users-1", 4, 310, 2, 0, 0.021), Observation("users-2", 9, 12, 3, 3)]
    number = {"type": "integer", "minimum": 0, "maximum": count_max}
    latency = {"type": ["number", "null"], "minimum": 0, "maximum": count_max}
    name = {"type": "string", "pattern": NAME_PATTERN}
    return {
        "name": "observations",
        "title": "What a client saw",
        "summary": "What a balancer saw of the instances of a service that it called; every few seconds. It is no sign of life",
        "description": (
            "An item is [instance, incarnation, attempts, failures, failing, latency]: the calls that ended in these seconds, "
            "how many of them failed, how many have failed in a row up to now, and the mean seconds to an answer, which may be "
            "left out or be null. By `host` the observers of one machine are told from those of others."
        ),
        "bindings": _key("service/<name>"),
        "payload": {
            "type": "object",
            "required": ["observer", "service", "seconds", "observed"],
            "additionalProperties": False,
            "properties": {
                "observer": {**name, "description": "Who has seen it, by a name that no other has"},
                "host": {"type": "string", "maxLength": host_chars_max, "description": "The machine of the observer"},
                "service": name,
                "seconds": {"type": "number", "minimum": REPORT_SECONDS_MIN, "maximum": report_seconds_max},
                "observed": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": observed_max,
                    "items": {
                        "type": "array",
                        "minItems": 5,
                        "maxItems": 6,
                        "prefixItems": [name, number, number, number, number, latency],
                    },
                },
            },
        },
        "examples": [
            _example(
                "observations",
                orjson.loads(encode_observations(Observations("web-5f3a", "users", 5.0, seen, "web-1"))),
            )
        ],
    }


def _tick() -> Json:
    return {
        "name": "tick",
        "title": "Tick",
        "summary": "Ten times a second, by the telemetry worker that has the partition: at its time silence is judged",
        "bindings": _key("tick"),
        "payload": {"type": "object", "properties": {"tick": {"type": "string", "description": "The worker"}}},
        "examples": [_example("tick", {"tick": "host-7"})],
    }


def _load() -> Json:
    row = ServiceLoad(
        service="orders",
        instances=40,
        heard=40,
        in_flight=480.0,
        per_second=12_420.0,
        observers=12,
        attempts_per_second=12_390.0,
        failure_share=0.001,
        latency_seconds=0.0184,
        at=_LIVE,
    )
    return _row("load", "Load of a service", "service/<name>", row)


def _instances() -> Json:
    slow = SeenInstance(
        instance="orders-7",
        incarnation=4,
        observers=12,
        attempts_per_second=308.0,
        failure_share=0.02,
        latency_seconds=0.412,
        in_flight=96.0,
    )
    row = SeenInstances(service="orders", items=(slow,), at=_LIVE)
    return _row("instances", "Instances as clients saw them", "instances/<name>", row)


def _worker() -> Json:
    row = TelemetryWorker(
        worker="host-7",
        state="running",
        partitions=(0, 3, 5),
        instances=41_250,
        silent=2,
        lag_seconds=0.12,
        messages_per_second=825.0,
        refused=0,
        at=_LIVE,
    )
    return _row("worker", "Telemetry worker", "telemetry/<worker>", row)


def _node_loads() -> Json:
    rate = {"type": ["number", "null"], "minimum": 0, "maximum": number_max}
    size = {"type": ["integer", "null"], "minimum": 0, "maximum": told_bytes_max}
    numbers = [{"type": "integer", "minimum": 0}, rate, rate, size]
    item = {"type": "array", "minItems": 1, "maxItems": 4, "prefixItems": numbers}
    row = NodeLoads(node="n1", keyspaces={"orders": [ToldShard(0, 310.5, 12.0, 1_048_576), ToldShard(7)]}, at=_LIVE)
    return {
        "name": "node_loads",
        "title": "Loads of a node's shards",
        "summary": "What a data node says of its shards, every five seconds, by the controller that has heard it",
        "description": (
            "An item is [shard, reads_per_second, writes_per_second, bytes]; any of the last three may be null: unknown. "
            "The newest of each key counts."
        ),
        "bindings": _key("shards/<node>"),
        "payload": {
            "type": "object",
            "required": ["node", "keyspaces", "at"],
            "properties": {
                "node": {"type": "string", "pattern": NAME_PATTERN},
                "keyspaces": {
                    "type": "object",
                    "propertyNames": {"pattern": NAME_PATTERN},
                    "additionalProperties": {"type": "array", "items": item},
                },
                "at": {"type": "string", "format": "date-time", "description": "When a controller heard it"},
            },
        },
        "examples": [_example("node_loads", orjson.loads(encode_node(row)))],
    }


def _row(name: str, title: str, key: str, row: LoadRow) -> Json:
    payload = TypeAdapter(type(row)).json_schema(ref_template=f"#/components/messages/{name}/payload/$defs/{{model}}")
    example = _example(name, orjson.loads(encode_row(row)))
    first = (type(row).__doc__ or "").splitlines()[0]
    return {
        "name": name,
        "title": title,
        "summary": f"{first} The newest of each key counts",
        "bindings": _key(key),
        "payload": payload,
        "examples": [example],
    }


def _key(description: str) -> Json:
    return {"kafka": {"key": {"type": "string", "description": description}, "bindingVersion": "0.5.0"}}


def _example(name: str, payload: Json) -> Json:
    return {"name": name, "payload": payload}
