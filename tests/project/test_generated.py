"""The generated documents are what the code says, and what they show as examples is true."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from docs import generate
from docs.example import run
from domain.catalogue import COMMANDS, EVENTS
from domain.registry.silence import ReportSilence
from domain.shards.node import RemoveNode
from infra.kafka.topic import TOPICS
from infra.log.chain import TERM_STARTED, Chain, sealed
from infra.log.codec import CloudEventMapper
from infra.log.port import START
from infra.settings import Settings
from muster.wire.error import BY_NAME
from muster.wire.stream import root_of
from tests.servers import SharedKafka
from workers.controller.process import running
from workers.gateway import Gateway
from workers.http.application import application, openapi_document
from workers.http.model import Outcome
from workers.views.views import Views
from workers.writer.published import envelope_from

ASYNCAPI: dict[str, Any] = yaml.safe_load((generate.ROOT / "docs/asyncapi.yaml").read_text(encoding="utf-8"))
OPENAPI: dict[str, Any] = orjson.loads((generate.ROOT / "docs/openapi.json").read_bytes())
OUTCOME_SECONDS_MAX = 20


def examples(*names: str) -> list[dict[str, Any]]:
    """The payloads of these messages' examples, in the order in which they happened."""
    messages = ASYNCAPI["components"]["messages"]
    return [example["payload"] for name in names for example in messages[name].get("examples", ())]


def commands() -> list[dict[str, Any]]:
    return sorted(examples(*COMMANDS), key=lambda command: int(command["id"].rpartition("-")[2]))


def records() -> list[dict[str, Any]]:
    messages = ASYNCAPI["components"]["messages"]
    shown = [example for name in (TERM_STARTED, *EVENTS) for example in messages[name]["examples"]]
    return [one["payload"] for one in sorted(shown, key=lambda one: int(one["name"].removeprefix("position ")))]


def test_the_generated_files_are_current() -> None:
    assert generate.outdated() == []


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with the generated files and what they come from."""
    for name in (*generate.texts(), generate.PROTO):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((generate.ROOT / name).read_bytes())
    return tmp_path


def test_a_file_that_is_not_current_is_told(copied: Path) -> None:
    (copied / "docs/openapi.json").write_text("{}")
    (copied / "muster/wire/rpc/node_pb2.pyi").unlink()
    assert generate.outdated(copied) == ["docs/openapi.json", "muster/wire/rpc/node_pb2.pyi"]


def test_a_field_that_was_added_to_the_service_is_missed_in_its_generated_code(copied: Path) -> None:
    proto = copied / generate.PROTO
    proto.write_text(proto.read_text().replace("message Written {", "message Written {\n  uint64 added = 15;"))
    assert generate.outdated(copied) == ["muster/wire/rpc/node_pb2.py", "muster/wire/rpc/node_pb2.pyi"]


@pytest.mark.parametrize("document", [ASYNCAPI, OPENAPI], ids=["asyncapi", "openapi"])
def test_every_reference_in_a_document_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize("path", OPENAPI["paths"])
async def test_a_documented_path_takes_just_the_documented_methods(path: str) -> None:
    gateway = Gateway("", "", 1, Views([0]), {}, {}, status=dict, check_output=lambda stream, instance: {})
    told: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    scope = {"type": "http", "method": "TRACE", "path": path.translate({123: None, 125: None}), "headers": []}
    await application(gateway)({**scope, "query_string": b"", "root_path": ""}, asyncio.Queue().get, send)
    allowed = {name: value for name, value in told[0]["headers"] if name == b"allow"}[b"allow"].decode()
    assert told[0]["status"] == 405
    # HEAD goes without saying wherever there is GET.
    assert {method.lower() for method in allowed.split(", ")} - {"head"} == OPENAPI["paths"][path].keys()


def test_every_topic_is_a_channel() -> None:
    assert list(ASYNCAPI["channels"]) == [topic.name for topic in TOPICS]
    for topic in TOPICS:
        assert ASYNCAPI["channels"][topic.name]["x-settings"] == dict(topic.settings)


@pytest.mark.parametrize("command_type", COMMANDS)
def test_every_command_has_an_example_that_a_controller_can_read(command_type: str) -> None:
    shown = examples(command_type)
    assert shown
    for command in shown:
        assert envelope_from(command).command.type == command_type


def test_the_documented_fields_of_a_command_are_those_that_are_read() -> None:
    for command in COMMANDS:
        payload = ASYNCAPI["components"]["messages"][command]["payload"]
        everything = {"actor": "a", "reason": "r", "expected_version": 0, **examples(command)[0]}
        assert payload["properties"].keys() == everything.keys()
        envelope_from(everything)
        for field in payload["required"]:
            with pytest.raises((BY_NAME["InvalidCommand"], BY_NAME["InvalidInstance"])):
                envelope_from({name: value for name, value in everything.items() if name != field})


def test_the_records_shown_are_an_unbroken_chain_of_events_that_decode() -> None:
    shown, mapper = records(), CloudEventMapper()
    values = []
    for record in shown:
        document = dict(record)
        key = root_of(document["subject"]).encode()
        del document["crc"]
        value = sealed(key, orjson.dumps(document))
        assert orjson.loads(value) == record
        values.append((len(values), key, value))
    batches = list(Chain(0, START).follow(values))
    assert batches[-1].cursor.position == len(shown) - 1
    assert not any(batch.voids for batch in batches)
    for batch in batches:
        for position, document in batch.records:
            assert mapper.recorded(0, position, document).event.type == document["type"]


def test_the_outcomes_shown_are_those_of_the_commands_shown() -> None:
    assert {outcome["status"] for outcome in examples("outcome")} == {"accepted", "unchanged", "refused"}
    told = {outcome["id"]: outcome for outcome in run().outcomes}
    for outcome in examples("outcome"):
        assert Outcome.model_validate(outcome).status == told[outcome["id"]]["status"]


@pytest.mark.kafka
async def test_commands_published_by_any_client_find_the_outcomes_shown(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix = f"generated-{uuid4().hex[:8]}"
    settings = Settings(data=tmp_path, http="127.0.0.1:0", kafka=kafka.bootstrap, prefix=prefix, controller="plain")
    async with running(settings), plain_clients(kafka.bootstrap, prefix) as (producer, consumer):
        found: dict[str, dict[str, Any]] = {}
        async with asyncio.timeout(OUTCOME_SECONDS_MAX):
            for command in map(unwatched, commands()):
                key = root_of(command["stream"]).encode()
                await producer.send_and_wait(f"{prefix}.commands", orjson.dumps(command), key=key)
                # Streams of different partitions have no order among them, so each outcome is awaited before the next command.
                while command["id"] not in found:
                    record = await consumer.getone()
                    outcome = orjson.loads(record.value)
                    assert Outcome.model_validate(outcome)
                    assert outcome["partition"] == record.partition
                    found.setdefault(outcome["id"], outcome)
    # n3 is alive, and only a controller, which knows that, refuses to remove it.
    refused = {"status": "refused", "error": {"name": "VerbNotAllowed"}}
    expected = [{**one, **refused} if one["id"] == REMOVAL else one for one in run().outcomes]
    # The silence that is shown began before this controller has heard of the instances: it says nothing about them.
    expected = [{**one, "status": "unchanged"} if one["id"] == SILENCE else one for one in expected]
    assert [found[one["id"]]["status"] for one in expected] == [one["status"] for one in expected]
    assert [error_name(found[one["id"]]) for one in expected] == [error_name(one) for one in expected]
    assert all(outcome.keys() == expected[0].keys() for outcome in found.values())


@asynccontextmanager
async def plain_clients(bootstrap: str, prefix: str) -> Any:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with producer, consumer:
        partitions = await producer.partitions_for(f"{prefix}.outcomes")
        here = [TopicPartition(f"{prefix}.outcomes", number) for number in partitions]
        consumer.assign(here)
        await consumer.seek_to_beginning(*here)
        yield producer, consumer


def unwatched(command: dict[str, Any]) -> dict[str, Any]:
    """The command without checks by the controller: nobody answers them here, and where this takes long they would change
    what the commands behind it find.
    """
    spec = command["data"].get("spec")
    if spec is None:
        return command
    kept = [check for check in spec["checks"] if check["kind"] == "ttl"]
    return {**command, "data": {**command["data"], "spec": {**spec, "checks": kept}}}


REMOVAL = next(command["id"] for command in commands() if command["type"] == RemoveNode.type)
SILENCE = next(command["id"] for command in commands() if command["type"] == ReportSilence.type)


def error_name(outcome: dict[str, Any]) -> str | None:
    error = outcome["error"]
    return None if error is None else str(error["name"])


FIRST_RELEASE = Path(__file__).parents[1] / "golden/first_release/openapi.json"


@pytest.mark.parametrize("part", ["paths", "components"])
def test_what_the_first_release_served_is_served_as_it_was(part: str) -> None:
    """Paths, parameters, bodies and answers: later releases add to them, and change none."""
    then, now = json.loads(FIRST_RELEASE.read_text())[part], openapi_document()[part]
    if part == "components":
        then, now = then["schemas"], now["schemas"]
    assert {name: found for name, found in then.items() if not adds_to(found, now.get(name))} == {}


def adds_to(then: Any, now: Any) -> bool:
    """Whether `now` says all that `then` said, and beside it only what nobody has to know: optional parameters and fields."""
    if isinstance(then, dict) and isinstance(now, dict):
        # A description may go on: it is for people, and what it says of the additions stands behind the rest.
        return all(
            name in now and (adds_to(found, now[name]) or (name == "description" and now[name].startswith(found)))
            for name, found in then.items()
        )
    if isinstance(then, list) and then and all(isinstance(one, dict) and "$ref" in one for one in then):
        # Another alternative, as a new kind of check, takes nothing from those that were there.
        return isinstance(now, list) and all(one in now for one in then)
    if isinstance(then, list) and then and all(isinstance(one, dict) and "name" in one for one in then):
        known = {(one["in"], one["name"]) for one in then}
        left = [one for one in now if (one["in"], one["name"]) in known]
        added = [one for one in now if (one["in"], one["name"]) not in known]
        return left == then and not any(one.get("required") for one in added)
    return bool(then == now)


@pytest.mark.parametrize(
    "changed",
    [
        {"properties": {}, "required": ["a"]},
        {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a", "b"]},
        {"properties": {"a": {"type": "string"}}},
    ],
    ids=["a field less", "another type", "a field that must be given", "a field that may be left out"],
)
def test_only_what_nobody_has_to_know_is_an_addition(changed: dict[str, Any]) -> None:
    then = {"properties": {"a": {"type": "string"}}, "required": ["a"]}
    assert adds_to(then, {"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]})
    assert not adds_to(then, changed)


def test_only_an_optional_parameter_is_an_addition() -> None:
    first = {"in": "query", "name": "a", "required": False}
    assert adds_to([first], [first, {"in": "query", "name": "b"}])
    assert not adds_to([first], [first, {"in": "query", "name": "b", "required": True}])
    assert not adds_to([first], [{**first, "required": True}])
