"""The command line of keyspaces, data nodes and migrations: a real controller and two real data nodes, each a process."""

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from muster.cli import main
from muster.wire.shards.key import shard_of
from tests.muster.controller import ControllerProcess, free_port
from tests.muster.data_node import NodeProcess

SHARDS = 8


class Cluster:
    """A controller and its data nodes `n1` and `n2`; `words` are given to the command line."""

    def __init__(self, folder: Path) -> None:
        self.controller = ControllerProcess(folder / "data", free_port())
        self.nodes = {name: NodeProcess(name, folder / name, self.controller.url) for name in ("n1", "n2")}

    def start(self) -> None:
        asyncio.run(self.controller.start())
        for node in self.nodes.values():
            node.start()
        self.until(lambda: len(self.told("nodes")["items"]) == 2)
        assert self.run("keyspace", "create", "users", "--shards", str(SHARDS), "--nodes", "n1").exit_code == 0
        self.until(lambda: self.told("keyspaces")["items"][0]["active"] == SHARDS)

    def kill(self) -> None:
        for node in self.nodes.values():
            node.kill()
        self.controller.kill()

    def run(self, *words: str, stdin: bytes | None = None) -> Result:
        env = {"MUSTER_URL": self.controller.url, "MUSTER_ACTOR": "cli@test"}
        return CliRunner().invoke(main, words, env=env, input=stdin)

    def told(self, *words: str) -> Any:
        """The JSON document of a command that succeeds."""
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("\n") == 1
        return json.loads(result.stdout)

    def shown(self, *words: str) -> str:
        """The text of a command that succeeds."""
        result = self.run(*words)
        assert result.exit_code == 0, result.output
        return result.stdout

    def until(self, condition: Callable[[], object]) -> None:
        ends_at = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < ends_at, "it took too long"
            time.sleep(0.05)

    def home(self, shard: int) -> None:
        """The shard at n1 again."""
        self.run("move", "users", str(shard), "--to", "n1", "--soak-seconds", "0", "--cleanup-seconds", "0", "--wait")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    found.start()
    yield found
    found.kill()


AT_ONCE = ("--soak-seconds", "0", "--cleanup-seconds", "0")


def test_what_is_put_can_be_got_routed_scanned_and_deleted(cluster: Cluster):
    assert cluster.shown("put", "users", "alice", "größer").startswith(f"written: users/{shard_of('alice', SHARDS)} ")
    assert cluster.shown("get", "users", "alice") == "größer"
    assert cluster.told("get", "users", "alice") == {"key": "alice", "found": True, "value": "größer"}
    route = cluster.told("route", "users", "alice")
    assert (route["shard"], route["owner"]) == (shard_of("alice", SHARDS), "n1")
    assert cluster.shown("route", "users", "alice").startswith(f"users/{route['shard']}, active: n1 at 127.0.0.1:")
    assert "alice\tgrößer\n" in cluster.shown("scan", "users")
    assert cluster.told("delete", "users", "alice")["shard"] == route["shard"]
    gone = cluster.run("get", "users", "alice")
    assert (gone.exit_code, gone.stdout, gone.stderr) == (1, "", "users holds nothing under alice\n")


def test_values_need_not_be_text(cluster: Cluster):
    assert cluster.run("put", "users", "raw", "-", stdin=b"a\x00\xff\\\n").exit_code == 0
    assert cluster.run("get", "users", "raw").stdout_bytes == b"a\x00\xff\\\n"
    assert cluster.told("get", "users", "raw")["value_base64"] == "YQD/XAo="
    lines = cluster.shown("scan", "users").splitlines()
    assert r"raw	a\x00\xff\\\n" in lines
    assert len(cluster.shown("scan", "users", "--limit", "1").splitlines()) == 1


def test_a_write_with_an_id_is_applied_once(cluster: Cluster):
    first = cluster.told("put", "users", "once", "1", "--write-id", "w-1")
    again = cluster.told("put", "users", "once", "2", "--write-id", "w-1")
    assert (again["position"], again["duplicate"]) == (first["position"], True)
    assert cluster.shown("get", "users", "once") == "1"


def test_the_loads_of_shards_and_nodes_stand_beside_them(cluster: Cluster):
    busy = shard_of("busy", SHARDS)
    cluster.told("put", "users", "busy", "x" * 400)

    def load() -> Any:
        return cluster.told("shards", "users", "--load")["items"][busy]["load"] or {"writes_per_second": 0.0}

    cluster.until(lambda: load()["writes_per_second"] > 0)
    assert (load()["node"], load()["bytes"] >= len("busy") + 400) == ("n1", True)
    cluster.until(lambda: all(row["load"] is not None for row in cluster.told("nodes", "--load")["items"]))
    assert re.search(r"^n1 .* B$", cluster.shown("nodes", "--load").splitlines()[1].strip())
    said = "places its shards by load (requests per second, and 1 for each shard): n1 "
    assert said in cluster.shown("node", "drain", "n2")
    cluster.told("node", "undrain", "n2")


def test_keyspaces_and_shards_have_tables_and_json(cluster: Cluster):
    again = cluster.shown("keyspace", "create", "users", "--shards", str(SHARDS), "--nodes", "n2")
    assert again.startswith(f"unchanged: keyspace users, {SHARDS} shards")
    assert cluster.run("keyspace", "create", "users", "--shards", "9").exit_code == 1
    assert cluster.shown("keyspaces").splitlines()[0].split()[:2] == ["KEYSPACE", "SHARDS"]
    assert len(cluster.shown("shards", "users", "--status", "active").splitlines()) == SHARDS + 1
    assert cluster.told("shards", "users", "--owner", "nobody")["items"] == []
    row = cluster.told("shards", "users")["items"][0]
    assert (row["first_hash"], row["epoch"] > 0) == ("0" * 16, True)
    unknown = cluster.run("shards", "nothing")
    assert (unknown.exit_code, unknown.stderr.split(":")[0]) == (1, "KeyspaceNotFound")


def test_shards_of_a_keyspace_that_came_before_its_nodes_are_assigned_later(cluster: Cluster):
    cluster.told("keyspace", "create", "later", "--shards", "4", "--nodes", "")
    assert {row["owner"] for row in cluster.told("shards", "later")["items"]} == {None}
    assert "-" in cluster.shown("shards", "later")
    cluster.told("keyspace", "assign", "later", "--nodes", "n1,n2")
    cluster.until(lambda: {row["status"] for row in cluster.told("shards", "later")["items"]} == {"active"})
    assert {row["owner"] for row in cluster.told("shards", "later")["items"]} == {"n1", "n2"}


def test_a_shard_is_moved_with_its_values_and_the_move_tells_its_story(cluster: Cluster):
    key = next(f"user-{number}" for number in range(100) if shard_of(f"user-{number}", SHARDS) == 3)
    cluster.told("put", "users", key, "moved")
    seen = cluster.shown(
        "move", "users", "3", "--to", "n2", *AT_ONCE, "--rate", "1000000", "--reason", "a test", "--wait"
    )
    assert seen.splitlines()[-1].startswith("users/")
    assert ": completed, after " in seen.splitlines()[-1]
    assert cluster.told("route", "users", key)["owner"] == "n2"
    assert cluster.shown("get", "users", key) == "moved"
    (id_,) = [row["id"] for row in cluster.told("migrations")["items"] if row["shard"] == 3]
    told = cluster.told("migration", "show", id_)
    assert [step["name"] for step in told["steps"]][:3] == ["plan", "reserve", "intend"]
    assert {step["outcome"] for step in told["steps"]} == {"done"}
    assert (told["phase"], told["actor"], told["reason"]) == ("completed", "cli@test", "a test")
    story = cluster.shown("migration", "show", id_)
    assert "shard 3 of users, from n1 to n2" in story
    assert "by cli@test: a test" in story
    assert [line.split()[0] for line in story.splitlines() if "done" in line][-1] == "complete"
    assert "completed" in cluster.shown("migrations", "--keyspace", "users")
    again = cluster.told("move", "users", "3", "--to", "n2")
    assert (again["status"], again["migration"]) == ("unchanged", id_)
    cluster.home(3)


def test_a_shard_that_is_where_it_should_be_needs_no_move(cluster: Cluster):
    assert cluster.shown("move", "users", "0", "--to", "n1", "--wait") == "unchanged: shard 0 has always been at n1\n"


def test_a_held_move_waits_says_so_and_takes_the_verbs_that_it_lists(cluster: Cluster):
    started = cluster.told("move", "users", "4", "--to", "n2", "--hold", *AT_ONCE)
    id_ = started["migration"].removeprefix("keyspace/").replace("/migration/", "/")
    cluster.until(lambda: cluster.told("migration", "show", id_)["step"] == "gate")
    story = cluster.shown("migration", "show", id_)
    assert "an operator: it is held" in story
    assert "pause, resume, skip, abort" in story
    cluster.told("migration", "pause", id_, "--reason", "lunch")
    assert cluster.told("migration", "show", id_)["paused"]
    assert "paused" in cluster.shown("migrations")
    refused = cluster.run("migration", "force-complete", id_)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("VerbNotAllowed: ")
    assert "abort" in refused.stderr
    assert cluster.shown("migration", "skip", id_).startswith("accepted: skip keyspace/users/migration/")
    watched = [
        json.loads(line) for line in cluster.run("migration", "show", id_, "--watch", "--json").stdout.splitlines()
    ]
    assert watched[-1]["phase"] == "completed"
    cluster.home(4)


def test_an_aborted_move_is_told_by_the_exit_code_of_who_waits_for_it(cluster: Cluster):
    started = cluster.told("move", "users", "5", "--to", "n2", "--hold")
    id_ = started["migration"]
    cluster.until(lambda: cluster.told("migration", "show", id_)["step"] == "gate")
    cluster.told("migration", "abort", id_, "--actor", "alice")
    assert cluster.told("migration", "abort", id_)["status"] == "unchanged"
    cluster.until(lambda: cluster.told("migration", "show", id_)["phase"] == "compensated")
    story = cluster.shown("migration", "show", id_)
    assert "turned back" in story
    assert "discard (undoes prepare)" in story
    assert cluster.told("shards", "users", "--owner", "n2")["items"] == []


def test_a_move_is_a_saga_with_a_story_and_verbs_of_its_own(cluster: Cluster):
    id_ = cluster.told("move", "users", "5", "--to", "n2", "--hold")["migration"]
    cluster.until(lambda: cluster.told("saga", "show", id_)["step"] == "gate")
    found = cluster.told("saga", "show", id_)
    assert (found["saga"], found["root"], found["definition"]) == ("migration", "keyspace/users", "shard_migration")
    assert found["facts"]["shard"] == 5
    assert [row["id"] for row in cluster.told("sagas", "--state", "running", "--root", "keyspace/users")["items"]] == [
        id_
    ]
    assert cluster.told("sagas", "--root", "keyspace/nothing")["items"] == []
    story = cluster.shown("saga", "show", id_)
    assert "shard_migration, version 1, of keyspace/users" in story
    assert "an operator: it is held" in story
    cluster.told("saga", "pause", id_, "--reason", "lunch")
    assert "paused" in cluster.shown("sagas")
    refused = cluster.run("saga", "force-complete", id_)
    assert (refused.exit_code, refused.stderr.split(":")[0]) == (1, "VerbNotAllowed")
    assert cluster.shown("saga", "abort", id_, "--reason", "not today").startswith(f"accepted: abort {id_}")
    cluster.until(lambda: cluster.told("saga", "show", id_)["phase"] == "compensated")
    assert cluster.run("saga", "show", "users").exit_code == 2
    unknown = cluster.run("saga", "show", "keyspace/users/migration/999")
    assert (unknown.exit_code, unknown.stderr.split(":")[0]) == (1, "MigrationNotFound")


def test_a_shard_that_is_where_it_should_be_is_not_moved(cluster: Cluster):
    told = cluster.shown("move", "users", "0", "--to", "n1", "--wait")
    assert told == "unchanged: shard 0 has always been at n1\n"


def test_a_pinned_shard_is_not_moved(cluster: Cluster):
    cluster.told("pin", "users", "6", "--reason", "hot")
    assert cluster.told("shards", "users")["items"][6]["pinned"]
    assert cluster.run("move", "users", "6", "--to", "n2").stderr.startswith("ShardPinned")
    assert cluster.shown("unpin", "users", "6").startswith("accepted: unpin users/6")


def test_nodes_are_listed_marked_and_limited(cluster: Cluster):
    rows = {row["node"]: row for row in cluster.told("nodes")["items"]}
    assert (rows["n1"]["zone"], rows["n1"]["alive"], rows["n1"]["lease_seconds"]) == ("zone-n1", True, 2)
    cluster.told("node", "cordon", "n2", "--reason", "disk")
    assert "alive, cordoned" in cluster.shown("nodes")
    assert cluster.run("move", "users", "7", "--to", "n2").stderr.startswith("NodeCordoned")
    cluster.told("node", "uncordon", "n2")
    assert cluster.told("node", "uncordon", "n2")["status"] == "unchanged"
    assert cluster.run("node", "cordon", "n9").stderr.startswith("NodeNotFound")
    assert cluster.shown("limits") == "moves at a time: 1 per data node, 4 in all\n"
    limits = {"node_moves_max": 2, "cluster_moves_max": 4, "held": [], "waiting": []}
    assert cluster.told("limits", "--node-moves", "2") == limits
    assert cluster.told("limits", "--node-moves", "1", "--cluster-moves", "4")["node_moves_max"] == 1


def test_what_is_no_time_and_no_migration_is_wrong_usage(cluster: Cluster):
    assert cluster.run("move", "users", "0", "--to", "n2", "--not-before", "tomorrow").exit_code == 2
    assert cluster.run("move", "users", "0", "--to", "n2", "--not-before", "2026-01-01T00:00:00").exit_code == 2
    assert cluster.run("migration", "show", "17").exit_code == 2
    assert cluster.run("migrations", "--watch", "--limit", "3").exit_code == 2
    assert cluster.run("migration", "show", "users/999").stderr.startswith("MigrationNotFound")


def test_a_second_process_on_the_same_folder_is_told_who_holds_it(cluster: Cluster, tmp_path: Path):
    second = NodeProcess("n1", cluster.nodes["n1"].log.with_suffix(""), cluster.controller.url)
    second.log = tmp_path / "second.log"
    second.start()
    assert second.wait() == 1
    assert "is held by process" in second.log.read_text()


def test_another_folder_cannot_be_the_same_node(cluster: Cluster, tmp_path: Path):
    other = NodeProcess("n1", tmp_path / "other", cluster.controller.url)
    other.start()
    assert other.wait() == 1
    assert "NodeTaken" in other.log.read_text()


def test_a_node_does_not_listen_beyond_loopback_unless_it_is_told_to(tmp_path: Path):
    refused = CliRunner().invoke(main, ["node", "run", "--id", "n1", "--data", str(tmp_path), "--listen", "0.0.0.0:0"])
    assert refused.exit_code == 1
    assert "pass --insecure" in refused.stderr


@pytest.mark.process
def test_a_cluster_goes_on_when_each_of_its_processes_was_killed_and_started_again(tmp_path: Path):
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        for number in range(40):
            cluster.told("put", "users", f"user-{number}", str(number))
        cluster.told("move", "users", "2", "--to", "n2", "--hold", *AT_ONCE)
        for process in (*cluster.nodes.values(), cluster.controller):
            process.kill()
        asyncio.run(cluster.controller.start())
        for node in cluster.nodes.values():
            node.start()
        cluster.until(lambda: cluster.told("migration", "show", "users/1")["step"] == "gate")
        cluster.told("migration", "resume", "users/1")
        cluster.until(lambda: cluster.told("migration", "show", "users/1")["phase"] == "completed")
        pairs = dict(line.split("\t") for line in cluster.shown("scan", "users").splitlines())
        assert pairs == {f"user-{number}": str(number) for number in range(40)}
        assert {row["owner"] for row in cluster.told("shards", "users", "--owner", "n2")["items"]} == {"n2"}
        assert cluster.nodes["n1"].stop() == 0
        assert "n1 stops" in cluster.nodes["n1"].log.read_text()
    finally:
        cluster.kill()


def test_the_python_of_the_readme_runs_as_it_stands(cluster: Cluster):
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    snippets = [text for text in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "8740" in text]
    with answering("Ada") as port:
        cluster.shown("register", "users", "users-1", "--address", "127.0.0.1", "--port", str(port))
        told = [outcome_of(text.replace("http://127.0.0.1:8740", cluster.controller.url)) for text in snippets]
    assert [(one.returncode, one.stderr) for one in told] == [(0, "")] * 3
    assert told[0].stdout == "10.0.0.7:8080\n"
    assert "first value" in told[1].stdout
    assert told[2].stdout == "200 Ada\n"


@contextmanager
def answering(text: str) -> Iterator[int]:
    """An HTTP server that answers all GETs with the text; its port."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def outcome_of(program: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.process
def test_shards_of_a_node_that_is_gone_are_shown_as_unavailable_with_the_cause_and_no_address(tmp_path: Path):
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        cluster.nodes["n1"].kill()
        cluster.until(lambda: cluster.told("keyspaces")["items"][0]["unavailable"] == SHARDS)
        for cause in "the lease of its owner n1 has run out", "its owner n1 is not in the cluster":
            lines = cluster.shown("shards", "users", "--status", "unavailable").splitlines()
            assert len(lines) == 1 + SHARDS
            assert all(line.split()[:5] == [str(n), "n1", "-", "1", "unavailable"] for n, line in enumerate(lines[1:]))
            assert all(line.rstrip().endswith(cause) for line in lines[1:])
            assert cluster.told("shards", "users", "--status", "active")["items"] == []
            assert cause in cluster.shown("route", "users", "alice")
            refused = cluster.run("put", "users", "alice", "1", "--timeout", "1")
            assert refused.exit_code != 0
            assert cause in refused.stderr
            cluster.run("node", "remove", "n1", "--force")
    finally:
        cluster.kill()


@pytest.mark.process
def test_a_source_that_hangs_for_longer_than_its_lease_is_fenced_when_it_wakes_and_loses_no_write(tmp_path: Path):
    cluster = Cluster(tmp_path)
    source = cluster.nodes["n1"]
    try:
        cluster.start()
        key = next(f"user-{number}" for number in range(100) if shard_of(f"user-{number}", SHARDS) == 2)
        cluster.told("move", "users", "2", "--to", "n2", "--hold", *AT_ONCE)
        cluster.until(lambda: cluster.told("migration", "show", "users/1")["step"] == "gate")
        cluster.told("put", "users", key, "the last word")
        source.suspend()
        cluster.told("migration", "resume", "users/1")
        cluster.until(lambda: cluster.told("migration", "show", "users/1")["step"] == "drain")
        source.resume()
        cluster.until(lambda: cluster.told("migration", "show", "users/1")["phase"] == "completed")
        assert cluster.shown("get", "users", key) == "the last word"
        assert cluster.told("route", "users", key)["owner"] == "n2"
        assert source.log.read_text().count("n1 serves what the shard map gives it") > 1
    finally:
        source.resume()
        cluster.kill()
