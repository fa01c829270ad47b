"""Whatever the served OpenAPI document lets a client send, and much that it does not: no request ends in a fault of ours.

Schemathesis makes the requests for a minute, always the same ones for the same document: each field at its bounds and beyond,
texts of any kind, parameters left out or doubled, and sequences in which an answer leads to the next request.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from infra.settings import Settings
from workers.controller.process import running

SECONDS = 60
SEED = 1
ALLOWED = {503, 504}
"""What a client is told when nothing can be said in the time that it gave; it may be next to none."""


@pytest.mark.process
@pytest.mark.timeout(SECONDS + 120)
async def test_nothing_that_the_document_allows_or_forbids_is_a_fault_of_the_controller(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = tmp_path / "report.ndjson"
    async with running(Settings(data=tmp_path / "data", http="127.0.0.1:0")) as controller:
        asked = await schemathesis(f"{controller.url}/openapi.json", report)
        async with aiohttp.ClientSession() as session, session.get(f"{controller.url}/readyz") as ready:
            assert ready.status == 200
    statuses = Counter(statuses_of(report))
    # Without these it would have asked nothing that gets beyond the reading of a request.
    assert statuses[200] > 50, asked
    assert {status for status in statuses if status >= 500} <= ALLOWED, asked
    assert "Traceback" not in caplog.text


async def schemathesis(document: str, report: Path) -> str:
    """Run it; what it said at the end."""
    options = ("--max-time", str(SECONDS), "--seed", str(SEED), "--request-timeout", "10", "--continue-on-failure")
    checks = ("--checks", "not_a_server_error", "--exclude-path-regex", "/v1/watch")
    reports = ("--report", "ndjson", "--report-ndjson-path", str(report), "--no-color")
    program = Path(sys.executable).with_name("schemathesis")
    process = await asyncio.create_subprocess_exec(
        *(str(program), "run", document, *options, *checks, *reports),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=report.parent,  # it leaves a database of its examples where it runs
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    # 1: its check found what it calls a failure, which the statuses judge here.
    assert process.returncode in (0, 1), said.decode()
    return said.decode()[-4_000:]


def statuses_of(report: Path) -> Iterator[int]:
    """The status of every answer in the report, wherever it stands there."""
    for line in report.read_text().splitlines():
        yield from _statuses(json.loads(line))


def _statuses(found: Any) -> Iterator[int]:
    if isinstance(found, dict):
        if isinstance(found.get("status_code"), int):
            yield found["status_code"]
        found = list(found.values())
    if isinstance(found, list):
        for one in found:
            yield from _statuses(one)
