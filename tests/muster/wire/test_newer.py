"""What a newer controller says is read by an older client: nothing that is unknown here ends a read or a watch."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from muster import HttpCheck, UnknownCheck
from muster.wire.groups.answers import GROUPS
from muster.wire.read_model import ReadModel
from muster.wire.registry.answers import EVENT_PAGE, HISTORY, INSTANCE, INSTANCE_PAGE, SERVICES
from muster.wire.registry.traffic import DEFAULTS, TRAFFIC
from muster.wire.sagas import SAGAS
from muster.wire.shards.answers import CLUSTER, KEYSPACES, MIGRATIONS, NODES, ROUTE, SHARD_PAGE, TASK
from muster.wire.telemetry.loads import INSTANCE_LOADS, SERVICE_LOADS
from muster.wire.telemetry.shard_loads import SHARD_LOADS
from tests.muster.client.scripted import item

MODELS: list[ReadModel[Any]] = [SERVICES, GROUPS, TRAFFIC, SAGAS, KEYSPACES, NODES, MIGRATIONS]
READ: list[TypeAdapter[Any]] = [
    *(adapter for model in MODELS for adapter in (model.one, model.page)),
    *(INSTANCE, INSTANCE_PAGE, HISTORY, EVENT_PAGE, SHARD_PAGE, ROUTE, CLUSTER, TASK),
    *(SERVICE_LOADS, INSTANCE_LOADS, SHARD_LOADS),
]
HTTP = {"kind": "http", "url": "http://host/health", "name": "web"}


@pytest.mark.parametrize(
    "check",
    [{"kind": "smtp", "host": "mx", "name": "mail"}, {**HTTP, "version": "3"}, {**HTTP, "method": "QUERY"}],
    ids=["a kind", "a field", "a word"],
)
def test_a_check_that_is_unknown_here_is_kept_as_it_came_beside_those_that_are_known(check: dict[str, Any]) -> None:
    found = INSTANCE.validate_python(item("a", 1, checks=[check, HTTP]))
    assert found.checks == (
        UnknownCheck(check["kind"], check["name"], check),
        HttpCheck(url="http://host/health", name="web"),
    )


def test_a_check_without_a_kind_or_a_name_is_none() -> None:
    for check in ({"name": "mail"}, {"kind": "smtp"}, "smtp"):
        with pytest.raises(ValueError, match="checks"):
            INSTANCE.validate_python(item("a", 1, checks=[check]))


def test_words_that_are_unknown_here_are_kept() -> None:
    told = item("a", 1, health="degraded", heartbeats="pigeon", check_status={"web": {"status": "degraded"}})
    found = INSTANCE.validate_python(told)
    assert (found.health, found.heartbeats, found.check_status["web"].status) == ("degraded", "pigeon", "degraded")


def test_a_policy_that_is_unknown_here_is_shown_and_another_one_is_in_force() -> None:
    told = {"service": "users", "policy": "by_mood", "eject_after": 3, "since": "2026-01-02T12:00:00Z"}
    found = TRAFFIC.one.validate_python({**told, "actor": "ann", "version": 1})
    assert found.given == {"policy": "by_mood", "eject_after": 3}
    assert found.in_force == replace(DEFAULTS, eject_after=3)


@pytest.mark.parametrize("read", READ, ids=lambda read: read.json_schema()["title"])
def test_nothing_that_is_read_is_closed(read: TypeAdapter[Any]) -> None:
    schema = read.json_schema()
    # Of checks each kind is closed, and any other check is taken as it came.
    kinds = {"HttpCheck", "HttpsCheck", "TcpCheck", "TtlCheck"}
    open_ = {name: part for name, part in schema.pop("$defs", {}).items() if name not in kinds}
    assert list(_closed([schema, *open_.values()])) == []


def _closed(part: Any) -> Iterator[Any]:
    """What allows no word, or no field, but those that it names."""
    if isinstance(part, list):
        # One of several, and one of them is any text at all.
        if {"type": "string"} not in part:
            for one in part:
                yield from _closed(one)
    elif isinstance(part, dict):
        if {"enum", "const"} & part.keys() or part.get("additionalProperties") is False:
            yield part
        for one in part.values():
            yield from _closed(one)
