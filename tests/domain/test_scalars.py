"""Numbers, truth values and instants of commands are what JSON calls so, in every field of every command."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from domain.catalogue import COMMANDS, command_from, command_from_json
from muster.wire.error import InvalidCommand, InvalidInstance
from tests import sample_shards
from tests.sample import COMMANDS as INSTANCE_COMMANDS
from workers.http.shards.model import AssignBody, KeyspaceBody, ReportBatch

SAMPLES = [command for command in (*INSTANCE_COMMANDS, *sample_shards.COMMANDS) if command.type in COMMANDS]
LOOKS_LIKE: dict[type, tuple[Any, ...]] = {
    bool: (0, 1, "true", "yes"),
    int: (True, "5", "5.0"),
    float: (True, "5", "1e3"),
}
MOVE = {"shard": 1, "target": "n2"}


def leaves(data: Any, *path: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The values in the data, each with the way to it."""
    if isinstance(data, dict | list):
        for name, inner in data.items() if isinstance(data, dict) else enumerate(data):
            yield from leaves(inner, *path, name)
    else:
        yield path, data


def changed(data: Any, path: tuple[Any, ...], found: Any) -> Any:
    copied = orjson.loads(orjson.dumps(data))
    inner = copied
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = found
    return copied


CASES = [
    (command.type, data, path, wrong)
    for command in SAMPLES
    for data in [orjson.loads(command.model_dump_json())]
    for path, found in leaves(data)
    for wrong in LOOKS_LIKE.get(type(found), ())
    # What a step has found, or tells of itself, is the saga's affair, and may be anything.
    if path[0] not in ("result", "facts", "progress")
]


@pytest.mark.parametrize(("type_name", "data", "path", "wrong"), CASES)
def test_what_only_looks_like_one_is_refused_with_its_field(
    type_name: str, data: dict[str, Any], path: tuple[Any, ...], wrong: Any
) -> None:
    assert command_from(type_name, data)
    for refused in (
        lambda told: command_from(type_name, told),
        lambda told: command_from_json(type_name, orjson.dumps(told)),
    ):
        with pytest.raises((InvalidCommand, InvalidInstance)) as error:
            refused(changed(data, path, wrong))
        assert error.value.context["field"].endswith(str(path[-1]))


@pytest.mark.parametrize("wrong", [5, 5.0, True, "5", "1700000000", "2026-01-31"])
def test_a_number_or_a_day_is_no_instant(wrong: object) -> None:
    with pytest.raises(InvalidCommand, match="not_before"):
        command_from("muster.shard.move.v1", {**MOVE, "not_before": wrong})
    assert command_from("muster.shard.move.v1", {**MOVE, "not_before": "2026-01-31T03:05:00Z"})


def lax(schema: Any) -> Iterator[str]:
    """The types in a schema of pydantic's that take what only looks like them."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool") and not schema.get("strict"):
            yield schema["type"]
        for name, inner in schema.items():
            if name not in ("metadata", "serialization"):
                yield from lax(inner)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            yield from lax(inner)


@pytest.mark.parametrize(
    "model", [*COMMANDS.values(), KeyspaceBody, AssignBody, ReportBatch], ids=lambda one: one.__name__
)
def test_no_field_takes_what_only_looks_like_its_type(model: Any) -> None:
    assert list(lax(model.__pydantic_core_schema__)) == []
