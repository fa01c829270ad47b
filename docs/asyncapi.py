"""The AsyncAPI 3.0 document, from the code: the table of topics, the commands, the events, the outcomes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from docs.example import COMMANDS as EXAMPLES
from docs.example import SOURCE, WRITER, run
from docs.telemetry_messages import telemetry_messages
from domain import catalogue
from domain.message import Event
from infra.kafka import topic
from infra.log.chain import TERM_STARTED, TERM_STREAM
from muster import __version__
from muster.wire.command import Command
from muster.wire.error import BY_NAME, Refused
from muster.wire.stream import PATTERNS
from workers.http.model import Outcome
from workers.machine.aggregate import AGGREGATES
from workers.peers.cluster_key import ClusterKey
from workers.peers.members import Member
from workers.peers.roll_call import RollCall
from workers.writer.published import command_bytes_max, reason_chars_max

Json = dict[str, Any]

_ROOT_OF: Final = {
    "service": "service/<name>",
    "keyspace": "keyspace/<name>",
    "cluster": "cluster",
    "group": "group/<name>",
    "traffic": "service/<service>, with which it shares a partition",
    "saga": "keyspace/<name>, also of keyspace/<name>/migration/<number>, and group/<name>",
}
_STANDARD_SETTINGS: Final = ("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes")
_ABOUT: Final = f"""\
muster's messages on Kafka. Any client can publish a command: key = the root of its stream (`keyspace/users` of
`keyspace/users/migration/17`, `service/users` of `traffic/users`; else the stream itself), Kafka's default partitioner (murmur2),
at most {command_bytes_max} bytes; its outcome stands on the outcomes topic, in the partition of the same number, at
least once. Whoever reads the events must follow the rule of the chain: see docs/decisions/0001-fenced-log.md. The prefix
`muster` of the topics is a setting."""


def document() -> Json:
    """The whole document."""
    told = run()
    events = [_event(event, told.records) for event in catalogue.EVENTS.values()]
    commands = [_command(command) for command in catalogue.COMMANDS.values()]
    messages = {message["name"]: message for message in (*commands, _outcome(told.outcomes), *events)}
    messages |= {TERM_STARTED: _term_started(told.records), "beat": _beat(), "sign": _SIGN}
    messages |= {"snapshot.chunk": _CHUNK, "snapshot.manifest": _MANIFEST}
    messages |= {message["name"]: message for message in telemetry_messages()}
    named = {
        topic.COMMANDS: [message["name"] for message in commands],
        topic.OUTCOMES: ["outcome"],
        topic.EVENTS: [*(message["name"] for message in events), TERM_STARTED],
        topic.SNAPSHOTS: ["snapshot.chunk", "snapshot.manifest"],
        topic.LIVENESS: ["beat"],
        topic.HEARTBEATS: ["heartbeats", "observations", "tick"],
        topic.LOADS: ["load", "worker", "node_loads"],
        topic.CONTROLLERS: ["sign"],
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "muster",
            "version": __version__,
            "description": _ABOUT.replace("\n", " "),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {one.name: _channel(one, named[one.name]) for one in topic.TOPICS},
        "operations": _operations(named),
        "components": {"messages": messages, "schemas": _schemas()},
    }


def _channel(one: topic.Topic, messages: Sequence[str]) -> Json:
    configuration: Json = {name: one.settings[name] for name in _STANDARD_SETTINGS}
    configuration = {
        name: int(value) if value.lstrip("-").isdigit() else [value] for name, value in configuration.items()
    }
    return {
        "address": topic.topic_name(one.name),
        "title": one.title,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "kafka": {
                "topic": topic.topic_name(one.name),
                "partitions": topic.PARTITIONS,
                "topicConfiguration": configuration,
                "bindingVersion": "0.5.0",
            }
        },
        "x-settings": dict(one.settings),
        "x-vital-settings": sorted(one.vital),
    }


def _operations(named: Mapping[str, Sequence[str]]) -> Json:
    def operation(action: str, name: str, summary: str) -> Json:
        messages = [{"$ref": f"#/channels/{name}/messages/{message}"} for message in named[name]]
        return {"action": action, "channel": {"$ref": f"#/channels/{name}"}, "summary": summary, "messages": messages}

    decide = operation("receive", topic.COMMANDS, "Decide published commands in their order, each id once")
    decide["reply"] = {
        "channel": {"$ref": f"#/channels/{topic.OUTCOMES}"},
        "messages": [{"$ref": f"#/channels/{topic.OUTCOMES}/messages/outcome"}],
    }
    return {
        "decide": decide,
        "record": operation("send", topic.EVENTS, "Record what has happened, one batch per group of commands"),
        "prove": operation("send", topic.LIVENESS, "Prove that the writer still reigns"),
        "snapshot": operation("send", topic.SNAPSHOTS, "Keep folded state, for the controllers themselves"),
    }


def _command(command: type[Command]) -> Json:
    kind = catalogue.KIND_OF[command.type]
    return {
        "name": command.type,
        "title": command.__name__,
        "summary": _first_line(command),
        "correlationId": {"location": "$message.payload#/id"},
        "bindings": _key(f"The stream's root: {_ROOT_OF[kind]}"),
        "payload": {
            "type": "object",
            "required": ["id", "type", "stream", "data"],
            "additionalProperties": False,
            "properties": {
                "id": {
                    "type": "string",
                    "pattern": "^[\\x21-\\x7e]{1,200}$",
                    "description": "Makes the command idempotent: a repeat gets the first outcome",
                },
                "type": {"const": command.type},
                "stream": {"type": "string", "pattern": f"^{PATTERNS[kind]}$"},
                "data": _ref(command.__name__),
                "actor": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 128,
                    "default": "anonymous",
                    "description": "Who asks; recorded",
                },
                "reason": {"type": ["string", "null"], "maxLength": reason_chars_max, "description": "Why; recorded"},
                "expected_version": {
                    "type": ["integer", "null"],
                    "minimum": 0,
                    "description": "Only if what the command is about is at this version (VersionConflict)",
                },
            },
        },
        "examples": [_example(one["id"], one) for one in EXAMPLES if one["type"] == command.type],
    }


def _outcome(outcomes: Sequence[Json]) -> Json:
    first = {one["status"]: one for one in reversed(outcomes)}
    # Of the domain only: further modules may bring refusals of their own. These are for readers and for callers of HTTP.
    told = {name for name, error in BY_NAME.items() if issubclass(error, Refused)} - {
        "Refused",
        "NoHealthyInstances",
        "NoAvailableInstances",
        "LogTrimmed",
        "OtherLog",
        "WrongCluster",
    }
    refusals = ", ".join(sorted(told))
    return {
        "name": "outcome",
        "title": "Outcome",
        "summary": "What became of a command. Published at least once; take the first of its id",
        "description": (
            "`position` is that of its last event, or the head that the decision saw. `error` has `name` "
            f"({refusals}), `detail`, `status` and facts like `field`. A command without a readable id gets "
            "`<topic>/<partition>/<offset>` for one. `unknown` does not occur here, only over HTTP."
        ),
        "correlationId": {"location": "$message.payload#/id"},
        "bindings": _key(
            "The command's key; the command's id if that is over 1,024 bytes, and when the outcome is published again"
        ),
        "payload": _ref("Outcome"),
        "examples": [_example(status, one) for status, one in first.items()],
    }


_STRUCTURED: Final[Json] = {
    "type": "object",
    "properties": {"content-type": {"const": "application/cloudevents+json"}},
    "description": "By CloudEvents' binding for Kafka: the value is the whole event. Older records have no header.",
}


def _event(event: type[Event], records: Sequence[Json]) -> Json:
    examples = [_example(f"position {place}", one) for place, one in enumerate(records) if one["type"] == event.type]
    return {
        "name": event.type,
        "title": event.__name__,
        "summary": _first_line(event),
        "contentType": "application/cloudevents+json",
        "headers": _STRUCTURED,
        "bindings": _key(f"The root of the subject: {_ROOT_OF[AGGREGATES.of_event[event].stream]}"),
        "payload": {
            "allOf": [
                _ref("Record"),
                {"properties": {"type": {"const": event.type}, "data": _ref(event.__name__)}},
            ]
        },
        "examples": examples,
    }


def _term_started(records: Sequence[Json]) -> Json:
    return {
        "name": TERM_STARTED,
        "title": "TermStarted",
        "summary": "A writer's reign begins; void if it lost its race",
        "contentType": "application/cloudevents+json",
        "headers": _STRUCTURED,
        "bindings": _key(TERM_STREAM),
        "payload": {
            "allOf": [
                _ref("Sealed"),
                {"properties": {"type": {"const": TERM_STARTED}, "subject": {"const": TERM_STREAM}}},
            ]
        },
        "examples": [_example("position 0", records[0])],
    }


def _beat() -> Json:
    return {
        "name": "beat",
        "title": "Beat",
        "summary": "A proof of reign without an event; counts only right behind the writer's last one",
        "payload": {
            "type": "object",
            "required": ["writer", "term"],
            "properties": {"writer": {"type": "string"}, "term": {"type": "integer", "minimum": 1}},
        },
        "examples": [_example("beat", {"writer": WRITER, "term": 1})],
    }


_SIGN: Final[Json] = {
    "name": "sign",
    "title": "Sign of life",
    "summary": "A controller joins, is there, or leaves; decides nothing, only who tries to write",
    "description": "Made with the cluster's key; what is not is no controller's. Nobody else may say one.",
    "payload": {
        "type": "object",
        "required": ["controller", "url", "state", "number", "heard", "hmac"],
        "properties": {
            "controller": {"type": "string", "description": "The controller, and which start of it"},
            "url": {"type": "string"},
            "state": {"enum": ["joining", "ready", "leaving"]},
            "number": {"type": "integer", "minimum": 1, "description": "Counted from the start of the controller"},
            "heard": {
                "type": "object",
                "additionalProperties": {"type": "integer", "minimum": 1},
                "description": "Of other controllers, by name, the newest number that it has heard",
            },
            "hmac": {
                "type": "string",
                "pattern": "^[0-9a-f]{64}$",
                "description": (
                    "HMAC-SHA256 by the cluster's key, over three parts, each behind its length (8 bytes, big-endian): "
                    "`muster sign 1`, the topic's name, and all other fields as JSON with sorted names and no spaces"
                ),
            },
        },
    },
    "examples": [
        {
            "name": "sign",
            "payload": orjson.loads(
                RollCall(
                    ClusterKey(bytes(32)), topic.topic_name(topic.CONTROLLERS), Member(WRITER, "http://10.0.0.3:8740")
                ).sign("ready")
            ),
        },
    ],
}
_CHUNK: Final[Json] = {
    "name": "snapshot.chunk",
    "title": "Snapshot chunk",
    "summary": "Rows of a partition's fold; for the controllers themselves, may change with every version",
    "payload": {"type": "object", "properties": {"kind": {"type": "string"}, "rows": {"type": "array"}}},
}
_MANIFEST: Final[Json] = {
    "name": "snapshot.manifest",
    "title": "Snapshot manifest",
    "summary": "Written last; names the log position and each chunk by its SHA-256",
    "payload": {
        "type": "object",
        "properties": {
            "number": {"type": "integer"},
            "revision": {"type": "string"},
            "position": {"type": "integer"},
            "chunks": {"type": "array", "items": {"type": "string"}},
        },
    },
}


def _schemas() -> Json:
    types: list[Any] = [*catalogue.COMMANDS.values(), *catalogue.EVENTS.values(), Outcome]
    _, found = TypeAdapter.json_schemas(
        [(type_.__name__, "validation", TypeAdapter(type_)) for type_ in types],
        ref_template="#/components/schemas/{model}",
    )
    schemas = {name: _plain(schema) for name, schema in found["$defs"].items()}
    return dict(sorted({**schemas, "Sealed": _SEALED, "Record": _RECORD}.items()))


_SEALED: Final[Json] = {
    "type": "object",
    "description": "What all records share: a CloudEvents 1.0 document in structured mode with our extensions.",
    "required": ["specversion", "type", "source", "id", "subject", "time", "term", "writer", "prev", "crc"],
    "properties": {
        "specversion": {"const": "1.0"},
        "type": {"type": "string"},
        "source": {"type": "string", "description": f"The cluster, like {SOURCE}"},
        "id": {"type": "string"},
        "subject": {"type": "string", "description": "The stream"},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "term": {"type": "integer", "minimum": 1, "description": "The number of the writer's term"},
        "writer": {"type": "string", "description": "Who reigned: the controller, and which start of it"},
        "prev": {
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
            "description": "SHA-256 of the valid record before it: length of the key (4 bytes, big-endian), key, value",
        },
        "batchlast": {"const": True, "description": "This record ends its batch"},
        "data": {"type": "object"},
        "crc": {
            "type": "string",
            "pattern": "^[0-9a-f]{8}$",
            "description": "Always the last member: CRC-32 of the key and of all bytes before this member",
        },
    },
}
_RECORD: Final[Json] = {
    "allOf": [
        {"$ref": "#/components/schemas/Sealed"},
        {
            "type": "object",
            "required": ["streamversion", "causationid", "actor"],
            "properties": {
                "streamversion": {"type": "integer", "minimum": 0, "description": "Its place in its stream"},
                "causationid": {"type": "string", "description": "The id of the command that caused it"},
                "correlationid": {"type": "string"},
                "actor": {"type": "string", "description": "Who asked"},
                "reason": {"type": "string", "description": "Why"},
                "commandhash": {
                    "type": "string",
                    "description": "What the command asked, hashed; absent for commands from inside (checks, expiries)",
                },
                "commandsoffset": {
                    "type": "string",
                    "description": "On a batch's last record: the next offset to read of the commands partition",
                },
                "commandstopic": {
                    "type": "string",
                    "description": "On a batch's last record: the id of the commands topic that the offset is of",
                },
                "data_base64": {"type": "string", "description": "Instead of data, when compressed or enciphered"},
            },
        },
    ]
}


def _plain(schema: Any) -> Any:
    """Without OpenAPI's discriminator objects, which AsyncAPI does not have; the oneOf beside them says the same."""
    if isinstance(schema, dict):
        return {
            name: _plain(value)
            for name, value in schema.items()
            if not (name == "discriminator" and isinstance(value, dict))
        }
    return [_plain(value) for value in schema] if isinstance(schema, list) else schema


def _ref(model: str) -> Json:
    return {"$ref": f"#/components/schemas/{model}"}


def _key(description: str) -> Json:
    return {"kafka": {"key": {"type": "string", "description": description}, "bindingVersion": "0.5.0"}}


def _example(name: str, payload: Json) -> Json:
    return {"name": name, "payload": payload}


def _first_line(model: type) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]
