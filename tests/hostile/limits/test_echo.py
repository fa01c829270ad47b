"""What a sender has written comes back cut: a refusal is short, however long what it is about."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.workers.http.cluster import join
from tests.workers.http.conftest import Api, controller

LONG = "\x7f" * 100_000
"""Each of these is five bytes in an answer that shows it."""

SPEC = {"address": "127.0.0.1", "port": 1}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with controller(tmp_path) as found:
        yield found


def command(**fields: Any) -> dict[str, Any]:
    return {
        "commands": [{"id": "c", "type": "muster.instance.register.v1", "stream": "service/a", "data": {}, **fields}]
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("commands", {LONG: 1}),
        ("commands", command(type=LONG)),
        ("commands", command(stream=LONG)),
        ("commands", command(id=LONG)),
        ("commands", command(actor=LONG)),
        ("commands", command(**{LONG: 1})),
        ("commands", command(data={LONG: 1})),
        ("commands", command(data={"instance": LONG})),
        ("commands", command(data={"instance": "a", "spec": {**SPEC, "metadata": {LONG: 1}}})),
        ("commands", command(data={"instance": "a", "spec": {**SPEC, "checks": [{"kind": LONG}]}})),
        ("heartbeats", {LONG: 1}),
        ("heartbeats", {"beats": [{"agent": LONG, "service": "a", "items": [["a", 0]]}]}),
        ("observations", {LONG: 1}),
        ("observations", {"observations": [{LONG: 1}]}),
        ("tasks", {LONG: 1}),
        ("tasks", {"node": "n1", "reports": [{LONG: 1}]}),
        ("nodes/n1/loads", {LONG: 1}),
        ("nodes/n1/loads", {"incarnation": 0, "keyspaces": {LONG: []}}),
        ("keyspaces/users/assign", {LONG: 1}),
        ("keyspaces/users/moves", {LONG: 1}),
    ],
)
async def test_a_refusal_is_short_however_long_what_it_is_about(api: Api, path: str, body: dict[str, Any]) -> None:
    await join(api, "n1")
    told = await api.post(f"/v1/{path}", body)
    error = told.body["items"][0]["error"] if "items" in told.body else told.body
    assert error["status"] in (404, 422)
    assert len(str(told.body)) < 10_000, error["field"][:80]
