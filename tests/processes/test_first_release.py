"""What the first release wrote is opened, and answered as it answered: its log, its snapshots, its tables."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import asyncpg
import pytest

from tests.muster.controller import free_port

pytestmark = [pytest.mark.process]

ROOT: Final = Path(os.environ.get("MUSTER_ROOT", Path(__file__).parents[2]))
GOLDEN: Final = ROOT / "tests" / "golden" / "first_release"
VOLATILE: Final = {"token", "age_seconds", "check_output", "next_after"}
CURSOR: Final = {"position", "head_position", "head", "term", "writer"}
WAIT_SECONDS_MAX: Final = 30.0
EVENTS: Final = ("GET /v1/events?partition=0&limit=1000", "GET /v1/events?partition=1&limit=1000")


class Told(NamedTuple):
    status: int
    body: Any
    duplicate: str | None


def recorded(name: str = "answers.json") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GOLDEN / name).read_text())
    return document


def stable(value: Any) -> Any:
    """What every start has in common: no tokens and ages, and nothing that goes on while one looks at it."""
    if isinstance(value, list):
        return [stable(item) for item in value]
    if not isinstance(value, dict):
        return value
    left = {name: stable(inner) for name, inner in value.items() if name not in VOLATILE}
    if value.get("ended_at", "") is None:
        left.pop("seconds", None)
    if "held" in left:  # who holds a slot is told in no order
        left["held"] = sorted(left["held"], key=lambda held: held["migration"])
    return left


def adds_to(then: Any, now: Any) -> bool:
    """Whether `now` says all that the first release said; beside that, objects may have fields that it did not know."""
    if isinstance(then, dict) and isinstance(now, dict):
        return all(name in now and adds_to(found, now[name]) for name, found in then.items())
    if isinstance(then, list) and isinstance(now, list):
        return len(then) == len(now) and all(map(adds_to, then, now))
    return bool(then == now)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the data folder."""
    return Path(shutil.copytree(GOLDEN / "data", tmp_path / "data"))


class Api:
    """Asks a controller."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def ask(self, request: str, sent: Any = None, headers: dict[str, str] | None = None) -> Told:
        method, path = request.split(" ", 1)
        async with self._session.request(method, self._url + path, json=sent, headers=headers) as answer:
            return Told(answer.status, await answer.json(content_type=None), answer.headers.get("Muster-Duplicate"))

    async def status(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.ask("GET /v1/status")).body
        return told


@asynccontextmanager
async def controller(data: Path, *options: str) -> AsyncIterator[Api]:
    """`muster up` as a process of its own, ready, for the length of the block."""
    port = free_port()
    command = [sys.executable, "-m", "muster", "up", "--data", str(data), "--http", f"127.0.0.1:{port}", *options]
    told = data.with_suffix(".log")
    with told.open("wb") as log:
        process = await asyncio.to_thread(subprocess.Popen, command, stdout=log, stderr=log, cwd=ROOT)
    try:
        async with aiohttp.ClientSession() as session:
            api = Api(f"http://127.0.0.1:{port}", session)
            await ready(api, process, told.read_text)
            yield api
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 30)
        finally:
            process.kill()


async def ready(api: Api, process: "subprocess.Popen[bytes]", log: Callable[[], str]) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            assert process.poll() is None, log()
            try:
                if (await api.ask("GET /readyz")).status == 200:
                    return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.02)


async def muster(line: str, data: Path) -> dict[str, Any]:
    """The answer of a command at the log itself."""
    words = [sys.executable, "-m", *line.split(), "--data", str(data)]
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    out, err = await process.communicate()
    assert out, err.decode()
    return {"exit": process.returncode, "body": json.loads(out)}


@pytest.mark.parametrize("line", list(recorded()["commands"]))
async def test_the_log_is_verified_and_replayed_as_it_was(line: str, data: Path) -> None:
    assert adds_to(recorded()["commands"][line], await muster(line, data))


async def test_a_controller_answers_as_the_first_one_did(data: Path) -> None:
    golden = recorded()
    async with controller(data) as api:
        found = {}
        for request in golden["requests"]:
            told = await api.ask(request)
            found[request] = {"status": told.status, "body": stable(told.body)}
        positions = {str(each["partition"]): each["snapshot_position"] for each in (await api.status())["partitions"]}
    assert {request: told for request, told in found.items() if not adds_to(golden["requests"][request], told)} == {}
    # Its snapshots are of another revision, which is the hash of what a snapshot holds: they are left aside, and not misread.
    assert set(positions.values()) == {-1}


async def test_without_snapshots_the_log_alone_gives_the_same_answers(data: Path) -> None:
    (data / "snapshots.sqlite").unlink()
    golden = recorded()["requests"]
    async with controller(data) as api:
        found = {request: stable((await api.ask(request)).body) for request in golden}
    assert {request: body for request, body in found.items() if not adds_to(golden[request]["body"], body)} == {}


async def test_commands_that_were_answered_are_answered_again_and_change_nothing(data: Path) -> None:
    golden = recorded()
    async with controller(data) as api:
        for known in golden["repeats"]:
            told = await api.ask(known["request"], known["sent"], known["headers"])
            assert (told.status, stable(told.body), told.duplicate) == (
                known["status"],
                known["body"],
                known["duplicate"],
            )
        for events in EVENTS:
            assert stable((await api.ask(events)).body) == golden["requests"][events]["body"]


async def test_what_waits_can_be_brought_to_its_end(data: Path) -> None:
    """The sagas of the folder are alive: the held move is told to turn back, and does so."""
    move = "/v1/migrations/orders/4"
    async with controller(data) as api:
        assert (await api.ask(f"POST {move}/abort")).status == 200
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while (found := (await api.ask(f"GET {move}")).body)["ended_at"] is None:
                for task in (await api.ask("GET /v1/tasks?node=n4&consistency=strong")).body["items"]:
                    if task["saga"] == "keyspace/orders/migration/4":
                        report = {"id": task["id"], "outcome": "done", "result": {}}
                        await api.ask("POST /v1/tasks", {"node": "n4", "reports": [report]})
                await asyncio.sleep(0.02)
        assert found["phase"] == "compensated"
    moves = (await muster("muster verify --fold --moves --json", data))["body"]
    assert moves["ok"]


async def relations(connection: Any) -> list[tuple[str, str, int]]:
    """(name, kind, oid) of the schema's tables and views."""
    query = (
        "SELECT relname, relkind::text, oid::bigint FROM pg_class "
        "WHERE relnamespace = 'muster'::regnamespace AND relkind IN ('r', 'v') ORDER BY relname"
    )
    return [tuple(row) for row in await connection.fetch(query)]


async def content(connection: Any) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables and views; of the cursors only whose they are."""
    found = {}
    for name, _, _ in await relations(connection):
        rows = [
            json.loads(row) for (row,) in await connection.fetch(f"SELECT row_to_json(t)::text FROM muster.{name} t")
        ]
        left_out = CURSOR if name == "checkpoint" else set[str]()
        plain = [{column: value for column, value in row.items() if column not in left_out} for row in rows]
        found[name] = sorted(plain, key=lambda row: json.dumps(row, sort_keys=True))
    return found


BUILT_ANEW = ("instances",)
"""Projections whose rows say more by now than a row of then could: their tables are made anew from the log."""


def is_built_anew(relation: str) -> bool:
    """Whether the relation is the table of such a projection."""
    return relation.rpartition("_r")[0] in BUILT_ANEW


def gone_on(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Without what belongs to tables that are built anew; their views are what SQL users read, and stay."""
    return {
        name: [row for row in rows if row.get("projection") not in BUILT_ANEW]
        for name, rows in found.items()
        if not is_built_anew(name)
    }


def as_then(now: dict[str, list[dict[str, Any]]], then: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The rows with the columns, of the projections, that the first release knew; there may be more of both by now."""
    projections = {row["projection"] for row in then["live"]}
    found = {}
    for name in then:
        rows = [row for row in now[name] if row.get("projection") in (None, *projections)]
        known = set().union(*then[name]) if then[name] else set()
        plain = [{column: value for column, value in row.items() if column in known} for row in rows]
        found[name] = sorted(plain, key=lambda row: json.dumps(row, sort_keys=True))
    return found


async def written(connection: Any) -> dict[str, dict[str, str]]:
    """By table and row's content, which transaction wrote it."""
    return {
        name: dict(await connection.fetch(f"SELECT row_to_json(t)::text, t.xmin::text FROM muster.{name} t"))
        for name, kind, _ in await relations(connection)
        if kind == "r"
    }


async def caught_up(api: Api) -> None:
    """Return once all projections stand at the end of each partition, behind the new term."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            status = await api.status()
            ends = {str(each["partition"]): each["position"] for each in status["partitions"]}
            reigns = all(each["state"] == "reigning" for each in status["partitions"])
            found = [(number, one) for number, each in status["projector"].items() for one in each.values()]
            if reigns and all(one["state"] == "current" and one["position"] == ends[number] for number, one in found):
                return
            await asyncio.sleep(0.02)


@pytest.mark.postgres
async def test_the_projector_goes_on_from_the_tables_of_the_first_one(database: str, data: Path) -> None:
    connection = await asyncpg.connect(database, server_settings={"timezone": "UTC"})
    try:
        await connection.execute((GOLDEN / "postgres.sql").read_text())
        tables = [one for one in await relations(connection) if one[1] == "r" and not is_built_anew(one[0])]
        before = {name: rows for name, rows in (await written(connection)).items() if not is_built_anew(name)}
        async with controller(data, "--postgres", database) as api:
            await caught_up(api)
        golden = gone_on(recorded("postgres_answers.json"))
        assert as_then(gone_on(await content(connection)), golden) == golden
        # Nothing else was built anew: the tables are the same, and what the rest of the log did not change nobody has written.
        assert [relation for relation in await relations(connection) if relation in tables] == tables
        after = await written(connection)
        kept = {name: rows.keys() & after[name].keys() for name, rows in before.items()}
        assert sum(map(len, kept.values())) > 40
        assert {
            name: {row for row in rows if before[name][row] != after[name][row]} for name, rows in kept.items()
        } == {name: set() for name in kept}
        assert await connection.fetchval("SELECT min(position) FROM muster.checkpoint") > 0
    finally:
        await connection.close()
