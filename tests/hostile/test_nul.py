"""NULs: no SQL text can hold them, so they are refused; but only where they are, and never what looks like one."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from muster.agent.reports import sendable
from muster.wire.error import InvalidCommand
from tests.workers.http.conftest import INSTANCE, SPEC, Api, controller
from workers.writer.published import json_from

LOOKS_LIKE_ONE = r"[^\u0000] C:\u0000"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with controller(tmp_path) as found:
        yield found


def register(instance: str, **spec: Any) -> dict[str, Any]:
    data = {"instance": instance, "spec": {**SPEC, **spec}}
    return {"id": f"c-{instance}", "type": "muster.instance.register.v1", "stream": "service/orders", "data": data}


async def test_what_only_looks_like_one_is_legal_text(api: Api):
    assert b"\\u0000" in json.dumps(LOOKS_LIKE_ONE).encode()
    told = await api.put(INSTANCE, {**SPEC, "metadata": {"pattern": LOOKS_LIKE_ONE}})
    assert told.status == 200, told.body
    assert (await api.get(INSTANCE)).body["metadata"] == {"pattern": LOOKS_LIKE_ONE}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"metadata": {"pattern": "a\0"}}, "metadata.pattern"),
        ({"metadata": {"a\0": "x"}}, "metadata"),
        ({"tags": ["x", "\0"]}, "tags.1"),
        ({"\0": 1}, "body"),
    ],
)
async def test_a_nul_is_refused_with_its_field(api: Api, spec: dict[str, Any], field: str):
    told = await api.put(INSTANCE, {**SPEC, **spec})
    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field


async def test_of_a_list_of_commands_only_the_one_with_a_nul_is_refused(api: Api):
    commands = [register("a"), register("b", zone="\0"), register("c", zone=LOOKS_LIKE_ONE)]
    told = await api.post("/v1/commands", {"commands": commands})
    assert [item["status"] for item in told.body["items"]] == ["accepted", "refused", "accepted"]
    assert [item["id"] for item in told.body["items"]] == ["c-a", "c-b", "c-c"]
    assert told.body["items"][1]["error"]["field"] == "data.spec.zone"


async def test_of_a_list_of_reports_only_the_one_with_a_nul_is_refused(api: Api):
    reports = [
        {"id": "keyspace/k/shard/0/open/1", "outcome": "failed", "error": "disk \0"},
        {"id": "keyspace/k/shard/1/open/1", "outcome": "failed", "error": r"C:\u0000"},
    ]
    told = await api.post("/v1/tasks", {"node": "n1", "reports": reports})
    assert [item["status"] for item in told.body["items"]] == ["refused", "unchanged"]
    assert (await api.post("/v1/tasks", {"node": "n1\0", "reports": reports})).problem == (422, "InvalidCommand")


def test_a_node_sends_what_can_be_encoded():
    assert sendable("/data/\udcff\0: I/O error") == "/data/?\ufffd: I/O error"
    assert sendable(None) is None


def test_how_deep_or_long_it_is_does_not_matter():
    deep = b'{"a":' * 900 + b'"\\u0000"' + b"}" * 900
    with pytest.raises(InvalidCommand) as refused:
        json_from(deep)
    assert len(str(refused.value)) < 300
    # A long name above many items is not joined to each of them.
    wide = json.dumps({"n" * 100_000: list(range(100_000)), "x": ["\0"]}).encode()
    with pytest.raises(InvalidCommand, match=r"^x\.0: "):
        json_from(wide)
