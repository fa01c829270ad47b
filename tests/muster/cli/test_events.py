"""`muster events`: the newest of all partitions, between times, by who and of what; and as they come."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.muster.cli.commands import muster, shown, told
from tests.muster.controller import ControllerProcess

ROOT = Path(__file__).parents[3]


def test_events_are_the_newest_and_those_between_times_by_who_and_of_what(server: ControllerProcess):
    for name in ("e-1", "e-2", "e-3"):
        told(server, "register", "latest", name, "--address", "h", "--port", "80")
    told(server, "drain", "latest", "e-2", "--actor", "ann", "--reason", "disk")
    newest = shown(server, "events", "--limit", "2").splitlines()
    assert newest[0].split()[:4] == ["POSITION", "AT", "STREAM", "EVENT"]
    assert ["e-3" in newest[1], "instance.drain_started" in newest[2], len(newest)] == [True, True, 3]
    by_ann = told(server, "events", "--stream", "service/latest", "--actor", "ann", "--since", "5m")["items"]
    assert [(event["data"]["instance"], event["actor"]) for event in by_ann] == [("e-2", "ann")]
    assert len(told(server, "events", "--stream", "service/latest", "--instance", "e-2")["items"]) == 2
    assert told(server, "events", "--until", "2020-01-01T00:00:00Z")["items"] == []
    oldest = told(server, "events", "--partition", "0", "--after", "-1", "--limit", "1")
    assert oldest["items"][0]["position"] < by_ann[0]["position"]
    assert oldest["next_after"] == oldest["items"][0]["position"]


def test_a_setting_that_was_taken_back_is_said_to_be_not_set(server: ControllerProcess):
    told(server, "traffic", "set", "settled", "--policy", "random")
    told(server, "traffic", "set", "settled", "--default", "policy")
    first, second = shown(server, "events", "--stream", "traffic/settled").splitlines()[1:]
    assert "policy: random" in first
    assert "policy: not set" in second


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--type", "foo"], 1, "there are"),
        (["--stream", "api"], 1, "streams are service/<name>"),
        (["--stream", "service/nobody"], 1, "ServiceNotFound"),
        (["--instance", "nobody"], 1, "InstanceNotFound"),
        (["--since", "soon"], 2, "15m (ago)"),
        (["--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"], 2, "before --since"),
        (["--follow", "--until", "03:05"], 2, "goes on for ever"),
    ],
)
def test_events_that_nobody_can_have_meant_are_refused(
    server: ControllerProcess, words: list[str], code: int, says: str
):
    refused = muster(server, "events", *words)
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert says in refused.stderr


def test_events_are_followed_a_line_each(server: ControllerProcess):
    told(server, "register", "followed", "f-1", "--address", "h", "--port", "80")
    words = [
        sys.executable,
        "-m",
        "muster",
        "events",
        "--follow",
        "--limit",
        "1",
        "--stream",
        "service/followed",
        "--url",
    ]
    with subprocess.Popen([*words, server.url], stdout=subprocess.PIPE, text=True, cwd=ROOT) as following:
        assert following.stdout is not None
        assert "instance.registered  f-1 h:80" in following.stdout.readline()
        told(server, "drain", "followed", "f-1", "--reason", "now")
        assert following.stdout.readline().strip().endswith("f-1  cli@test  now")
        following.kill()
