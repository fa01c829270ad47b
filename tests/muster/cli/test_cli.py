"""The command line against a real controller: tables, JSON, exit codes."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import click
import pytest
from click.testing import CliRunner

from infra.sqlite.folder import LOG_FILE
from muster import Client
from muster.cli import main
from tests.muster.cli.commands import muster, shown, told
from tests.muster.cli.environment import not_set_up
from tests.muster.controller import ControllerProcess, controller, free_port

ROOT = Path(__file__).parents[3]


@pytest.fixture
def data(server: ControllerProcess) -> str:
    return str(server.data)


def test_register_takes_everything_from_options(server: ControllerProcess):
    words = ["register", "shop", "s-1", "--address", "10.0.0.7", "--port", "80", "--tag", "a", "--tag", "b"]
    words += ["--meta", "k=v=w", "--zone", "z1", "--weight", "3", "--lease", "60", "--deregister-after", "600"]
    words += ["--check", "http=http://10.0.0.7:80/health?a=1,2,interval=5,timeout=1,unhealthy_after=3,status=204"]
    words += ["--check", "tcp=10.0.0.7:80", "--check", "ttl=30", "--reason", "größer"]
    written = told(server, *words)
    assert written["status"] == "accepted"
    (row,) = told(server, "instances", "shop")["items"]
    assert row["tags"] == ["a", "b"]
    assert row["metadata"] == {"k": "v=w"}
    assert (row["zone"], row["weight"], row["lease_seconds"], row["deregister_after_seconds"]) == ("z1", 3, 60, 600)
    http, tcp, ttl = row["checks"]
    assert (http["url"], http["interval_seconds"]) == ("http://10.0.0.7:80/health?a=1,2", 5)
    assert (http["timeout_seconds"], http["unhealthy_after"], http["expected_status"]) == (1, 3, 204)
    assert (tcp["host"], tcp["port"], ttl["ttl_seconds"]) == ("10.0.0.7", 80, 30)
    assert shown(server, *words).startswith("unchanged: shop/s-1, incarnation")


def test_register_takes_a_file_and_options_override_it(server: ControllerProcess, tmp_path: Path):
    spec = {"address": "10.0.0.8", "port": 1, "tags": ["x"]}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    told(server, "register", "filed", "f", "--file", str(tmp_path / "spec.json"), "--port", "8080")
    (row,) = told(server, "instances", "filed")["items"]
    assert (row["address"], row["port"], row["tags"]) == ("10.0.0.8", 8080, ["x"])
    piped = muster(server, "register", "filed", "g", "--file", "-", stdin=json.dumps(spec))
    assert piped.exit_code == 0
    unknown = muster(server, "register", "filed", "h", "--file", "-", stdin=json.dumps({**spec, "prot": 1}))
    assert unknown.exit_code == 1
    assert unknown.stderr.startswith("InvalidInstance: prot")


def test_a_setting_of_a_check_that_is_misspelt_is_no_part_of_its_url(server: ControllerProcess):
    words = ["register", "typo", "t", "--address", "h", "--port", "80", "--check"]
    refused = muster(server, *words, "http=http://h/,intervall=3")
    assert refused.exit_code == 2
    assert "did you mean 'interval'?" in refused.stderr
    told(server, *words, "http=http://h/?a=1,colour=red,interval=5")
    (check,) = told(server, "instances", "typo")["items"][0]["checks"]
    assert (check["url"], check["interval_seconds"]) == ("http://h/?a=1,colour=red", 5)


def test_where_there_is_nothing_it_says_so_and_what_to_do(server: ControllerProcess):
    empty = muster(server, "nodes")
    assert (empty.exit_code, empty.stderr) == (0, "there are none\n")
    created = muster(server, "keyspace", "create", "early", "--shards", "2", "--nodes", "")
    assert created.exit_code == 0
    assert created.stderr == "no data node has joined: start one, then `muster keyspace assign early`\n"


def test_writes_say_what_they_did_and_by_whom(server: ControllerProcess):
    told(server, "register", "life", "a", "--address", "h", "--port", "80")
    assert shown(server, "heartbeat", "life", "a").startswith("unchanged: life/a")
    assert told(server, "drain", "life", "a", "--reason", "deploy")["status"] == "accepted"
    assert "draining by cli@test (deploy)" in shown(server, "instances", "life")
    told(server, "undrain", "life", "a")
    told(server, "maintenance", "life", "a", "--reason", "disk")
    assert muster(server, "discover", "life").exit_code == 1
    told(server, "maintenance", "life", "a", "--off")
    assert "h:80" in shown(server, "discover", "life")
    told(server, "deregister", "life", "a", "--reason", "retired", "--actor", "alice")
    table = shown(server, "history", "life", "a")
    assert table.splitlines()[0].split() == ["POSITION", "AT", "EVENT", "WHAT", "ACTOR", "REASON"]
    last = table.splitlines()[-1].split()
    assert last[3] == "instance.deregistered"
    assert last[-2:] == ["alice", "retired"]
    assert [entry["type"] for entry in told(server, "history", "life", "a")["items"]][-1].endswith("deregistered.v1")


def test_reads_have_tables_and_json(server: ControllerProcess):
    told(server, "register", "read", "r-1", "--address", "10.0.0.1", "--port", "80")
    assert shown(server, "services").splitlines()[0].split()[0] == "SERVICE"
    assert "read" in [row["service"] for row in told(server, "services", "--consistency", "strong")["items"]]
    assert "r-1" in shown(server, "instances", "read", "--health", "healthy")
    assert told(server, "instances", "read", "--zone", "elsewhere")["items"] == []
    assert told(server, "discover", "read")["items"][0]["instance"] == "r-1"
    events = told(server, "events", "--stream", "service/read")
    assert events["items"][0]["stream"] == "service/read"
    assert "r-1 10.0.0.1:80" in shown(server, "events", "--stream", "service/read", "--limit", "1")
    assert told(server, "status")["partitions"][0]["partition"] == 0
    assert "partition 0" in shown(server, "status")


def test_verify_and_replay_read_the_log_of_a_running_controller(server: ControllerProcess, data: str):
    written = told(server, "register", "past", "p", "--address", "h", "--port", "80")
    told(server, "drain", "past", "p")
    report = told(server, "verify", "--data", data, "--fold")
    assert (report["ok"], report["partitions"][0]["breach"]) == (True, None)
    assert report["verdict"].startswith("Sound: ")
    assert report["partitions"][0]["position"] > written["position"]
    assert shown(server, "verify", "--data", data).splitlines()[0].split()[0] == "PARTITION"
    then = told(server, "replay", "--data", data, "--to", str(written["position"]), "--projection", "instances")
    (row,) = [row for row in then["rows"]["instances"] if row["service"] == "past"]
    assert (row["instance"], row["draining"]) == ("p", False)
    now = told(server, "replay", "--data", data, "--to", "2999-01-01T00:00:00Z")
    assert {row["draining"] for row in now["rows"]["instances"] if row["service"] == "past"} == {True}
    assert "instance_history" in shown(server, "replay", "--data", data)
    assert "draining" in shown(server, "replay", "--data", data, "--projection", "instances").lower()


@pytest.mark.postgres
def test_replay_fills_a_database_that_sql_users_can_ask(server: ControllerProcess, data: str, database: str):
    told(server, "register", "table", "t", "--address", "10.0.0.9", "--port", "80", "--tag", "x")
    told(server, "replay", "--data", data, "--into", database)

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(database)
        try:
            return list(await connection.fetch("SELECT instance, port FROM muster.instances WHERE service = 'table'"))
        finally:
            await connection.close()

    assert [tuple(row) for row in asyncio.run(ask())] == [("t", 80)]


def test_watch_shows_the_state_and_then_each_change_as_a_line(server: ControllerProcess):
    told(server, "register", "seen", "a", "--address", "h", "--port", "80")
    for json_, expected in ((True, ["snapshot", "changed", "removed"]), (False, ["=", "--", "~", "-"])):
        told(server, "register", "seen", "a", "--address", "h", "--port", "80")
        with _watching(server, *(["--json"] if json_ else [])) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            told(server, "drain", "seen", "a")
            told(server, "deregister", "seen", "a")
            lines += process.stdout.read().splitlines()
            assert process.wait(timeout=30) == 0
        firsts = [json.loads(line)["change"] if json_ else line.split()[0] for line in lines]
        assert firsts == expected


def test_a_refusal_is_exit_code_1_with_the_problems_name(server: ControllerProcess):
    refused = muster(server, "drain", "nowhere", "x")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("ServiceNotFound: ")
    assert refused.stdout == ""
    document = muster(server, "drain", "nowhere", "x", "--json")
    assert document.exit_code == 1
    assert json.loads(document.stdout)["error"]["name"] == "ServiceNotFound"
    told(server, "register", "ver", "a", "--address", "h", "--port", "80")
    stale = muster(server, "deregister", "ver", "a", "--expected-version", "999999")
    assert (stale.exit_code, stale.stderr.split(":")[0]) == (1, "VersionConflict")


@pytest.mark.parametrize(
    "words",
    [
        ("register", "a"),
        ("register", "a", "b", "--check", "ping=x"),
        ("register", "a", "b", "--check", "tcp=nowhere"),
        ("register", "a", "b", "--meta", "novalue"),
        ("register", "a", "b", "--file", "/does/not/exist"),
        ("instances", "a", "--health", "fine"),
        ("replay", "--projection", "nonsense"),
        ("replay", "--to", "yesterday"),
        ("replay", "--to", "2026-01-01T00:00:00"),
        ("doctor",),
        ("frobnicate",),
    ],
)
def test_wrong_usage_is_exit_code_2(server: ControllerProcess, words: tuple[str, ...]):
    assert muster(server, *words).exit_code == 2


@pytest.mark.parametrize("words", [("services",), ("drain", "a", "b"), ("watch",), ("status",)])
def test_without_a_controller_it_is_exit_code_3(words: tuple[str, ...]):
    result = muster(None, *words, "--timeout", "0.2")
    assert result.exit_code == 3
    assert result.stderr.startswith("Unreachable: ")


def test_every_command_is_there_and_explains_itself():
    words = "register deregister drain undrain maintenance heartbeat services instances discover watch history events"
    words += " keyspaces shards route pin unpin put get delete scan nodes limits move migrations sagas"
    wanted = set(f"{words} replay verify backup status doctor telemetry up".split())
    wanted |= {f"keyspace {verb}" for verb in ("create", "assign")}
    wanted |= {f"node {verb}" for verb in ("run", "cordon", "uncordon", "drain", "undrain", "remove")}
    of_group = "run create set delete show watch history failover pause resume add leave"
    wanted |= {"groups", *(f"group {verb}" for verb in of_group.split())}
    wanted |= {"believe", "host run"}
    wanted |= {f"traffic {verb}" for verb in ("show", "set", "list")}
    verbs = ("show", "pause", "resume", "retry", "skip", "abort", "force-complete")
    wanted |= {f"{what} {verb}" for what in ("migration", "saga") for verb in verbs}
    assert set(_commands(main)) == wanted
    for name in wanted - not_set_up():
        result = CliRunner().invoke(main, [*name.split(), "--help"])
        assert result.exit_code == 0
        assert "--json" in result.stdout or name in ("up", "node run", "group run", "host run", "telemetry")


def _commands(group: click.Group) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from (f"{name} {below}" for below in _commands(command))
        else:
            yield name


HEAVY = {"fastapi", "uvicorn", "asyncpg", "eventsourcing", "aiokafka", "grpc", "lmdb"}


def test_the_client_s_commands_load_nothing_of_the_server():
    modules = "from muster.cli.registry import read, write; from muster.cli.shards import data, keyspace, migration"
    assert not _loaded(modules, {*HEAVY, "workers", "infra", "projections", "sagas"})


def test_the_server_s_commands_load_it_only_to_run_it():
    assert not _loaded("from workers.cli import log, server", {*HEAVY, "infra"})


def test_starting_a_controller_loads_nothing_of_the_clients():
    assert not _loaded("import workers.cli.server", {"aiohttp", "rich"})


def _loaded(statement: str, packages: set[str]) -> set[str]:
    """Those of the packages of which the statement, in a process of its own, imports something."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "click" in told.split()
    return packages.intersection(told.split())


def test_a_second_controller_on_the_same_folder_is_told_who_holds_it(server: ControllerProcess, data: str):
    second = [sys.executable, "-m", "muster", "up", "--data", data, "--http", f"127.0.0.1:{free_port()}"]
    ended = subprocess.run(second, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert ended.returncode == 1
    assert "is held by" in ended.stderr
    exposed = [sys.executable, "-m", "muster", "up", "--data", data, "--http", "0.0.0.0:0"]
    ended = subprocess.run(exposed, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert ended.returncode == 1
    assert "--insecure" in ended.stderr


def test_verify_names_the_position_of_the_damage(tmp_path: Path):
    asyncio.run(_with_three_instances(tmp_path / "data"))
    with sqlite3.connect(tmp_path / "data" / LOG_FILE) as log:
        state = log.execute("SELECT state FROM stored_events WHERE originator_version = 2").fetchone()[0]
        log.execute(
            "UPDATE stored_events SET state = ? WHERE originator_version = 2", (state.replace(b"users", b"usurs", 1),)
        )
    words = ["verify", "--data", str(tmp_path / "data")]
    broken = CliRunner().invoke(main, words)
    assert broken.exit_code == 1
    assert broken.stderr.startswith("Corrupt: partition 0, position 2: ")
    report = CliRunner().invoke(main, [*words, "--json"])
    assert report.exit_code == 1
    document = json.loads(report.stdout)
    assert (document["ok"], document["partitions"][0]["breach"]["position"]) == (False, 2)


def test_without_a_log_there_is_nothing_to_verify(tmp_path: Path):
    missing = CliRunner().invoke(main, ["verify", "--data", str(tmp_path)])
    assert missing.exit_code == 2
    assert "holds no log" in missing.stderr


async def _with_three_instances(data: Path) -> None:
    async with controller(data) as url, Client(url) as client:
        for name in ("a", "b", "c"):
            await client.register("users", name, "10.0.0.1", 80)


def _watching(server: ControllerProcess, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "muster", "watch", "seen", "--changes", "2", "--url", server.url, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
