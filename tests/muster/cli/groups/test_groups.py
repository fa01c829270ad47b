"""The commands about failover groups, as an operator types them, against a real controller; its members are played by hand."""

import json
import time
import urllib.request
from typing import Any

import pytest

from tests.muster.cli.test_cli import muster, shown, told
from tests.muster.controller import ControllerProcess

PATIENT = ("--lease-seconds", "600", "--heartbeat-seconds", "100")


def says(server: ControllerProcess, group: str, member: str, verb: str, **body: Any) -> Any:
    """What a runner says."""
    url = f"{server.url}/v1/groups/{group}/members/{member}/{verb}"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def runs(server: ControllerProcess, group: str, member: str) -> int:
    incarnation: int = says(server, group, member, "join", process=f"p-{member}", address=f"{member}:5432")[
        "incarnation"
    ]
    says(server, group, member, "report", incarnation=incarnation, outcome="ready")
    return incarnation


def led(server: ControllerProcess, group: str, epoch: int) -> Any:
    """The group, once somebody leads with the epoch."""
    until = time.monotonic() + 60
    while True:
        found = told(server, "group", "show", group)
        if found["epoch"] == epoch and found["primary"]:
            return found
        assert time.monotonic() < until, found
        time.sleep(0.05)


def test_a_group_from_its_creation_to_a_switch_and_its_end(server: ControllerProcess) -> None:
    created = ("group", "create", "db", "--member", "db1", "--member", "db2:10", *PATIENT)
    assert shown(server, *created).startswith("accepted: create db")
    assert shown(server, *created).startswith("unchanged: create db")
    assert "nobody leads" in shown(server, "groups")
    db1, db2 = runs(server, "db", "db1"), runs(server, "db", "db2")
    assert led(server, "db", 1)["primary"] == "db2"
    says(server, "db", "db2", "serving", incarnation=db2, epoch=1)
    assert shown(server, "group", "show", "db").splitlines()[0].startswith("db: db2 leads with epoch 1 since ")

    assert shown(server, "group", "failover", "db", "--to", "db1", "--reason", "a kernel").startswith("accepted")
    says(server, "db", "db2", "ended", incarnation=db2, epoch=1, how="said")
    assert led(server, "db", 2)["address"] == "db1:5432"
    says(server, "db", "db1", "serving", incarnation=db1, epoch=2)
    assert shown(server, "group", "failover", "db", "--to", "db1").startswith("unchanged")

    refused = muster(server, "group", "leave", "db", "db1")
    assert (refused.exit_code, refused.stderr.partition(":")[0]) == (1, "VerbNotAllowed")
    assert shown(server, "group", "leave", "db", "db2").startswith("accepted")
    assert shown(server, "group", "pause", "db").startswith("accepted")
    assert "db1 is the primary" in muster(server, "group", "delete", "db", "--force").stderr
    says(server, "db", "db1", "ended", incarnation=db1, epoch=2, how="said")
    assert muster(server, "group", "delete", "db").exit_code == 1
    assert shown(server, "group", "delete", "db", "--force").startswith("accepted")
    assert muster(server, "group", "show", "db").stderr.startswith("GroupNotFound")


def test_the_history_reads_like_a_story(server: ControllerProcess) -> None:
    shown(server, "group", "create", "story", "--member", "a", "--member", "b", *PATIENT)
    incarnations = {member: runs(server, "story", member) for member in ("a", "b")}
    led(server, "story", 1)
    says(server, "story", "a", "ended", incarnation=incarnations["a"], epoch=1, how="seen", detail="exit code 137")
    led(server, "story", 2)
    # Each line begins with an instant, 24 characters and two spaces.
    story = [line[26:] for line in shown(server, "group", "history", "story").splitlines()]
    assert story == [
        "the group is there, with a lease of 600 s (by cli@test)",
        "a is a member, with priority 1 (by cli@test)",
        "b is a member, with priority 1 (by cli@test)",
        "a is run by p-a (by anonymous)",
        "a can lead (by anonymous)",
        "b is run by p-b (by anonymous)",
        "b can lead (by anonymous)",
        "a failover begins (first): the group has had no primary yet",
        "a is the primary of epoch 1; passed over: b: a comes first: it has been active for longer",
        "a leads no more, its end was seen: exit code 137 (by anonymous)",
        # What was under way ends with the primary that it had chosen, before it served; the next one begins by itself.
        "the failover came to nothing: the new primary ended before it served",
        "a failover begins (ended): a has ended (seen): exit code 137",
        "b is the primary of epoch 2 after a (seen); passed over: a: recovering: it was the primary and has stopped",
    ]


def test_settings_are_changed_one_by_one(server: ControllerProcess) -> None:
    shown(server, "group", "create", "rules", "--member", "a", "--threshold", "5")
    assert shown(server, "group", "set", "rules", "--max-lag", "1000").startswith("accepted")
    found = told(server, "group", "show", "rules")
    assert (found["threshold"], found["max_lag"], found["lease_seconds"]) == (5, 1000, 2.0)
    taken_back = ("--default", "max_lag", "--default", "threshold")
    assert shown(server, "group", "set", "rules", *taken_back, "--service", "db").startswith("accepted")
    found = told(server, "group", "show", "rules")
    assert (found["threshold"], found["max_lag"], found["service"]) == (3, None, "db")
    assert muster(server, "group", "set", "rules").exit_code == 2
    assert muster(server, "group", "set", "rules", "--default", "colour").exit_code == 2
    assert muster(server, "group", "set", "rules", "--threshold", "0").stderr.startswith("InvalidCommand: threshold")
    for verb, paused in (("pause", True), ("resume", False)):
        shown(server, "group", verb, "rules")
        assert told(server, "group", "show", "rules")["paused"] is paused
    loud = shown(server, "group", "set", "rules", "--fencing", "unfenced") + shown(server, "group", "show", "rules")
    assert "WARNING: unfenced" in loud


def test_a_switch_that_takes_too_long_is_a_failover_timeout(server: ControllerProcess) -> None:
    shown(server, "group", "create", "slow", "--member", "a:2", "--member", "b", "--failover-seconds", "1", *PATIENT)
    incarnations = {member: runs(server, "slow", member) for member in ("a", "b")}
    led(server, "slow", 1)
    says(server, "slow", "a", "serving", incarnation=incarnations["a"], epoch=1)
    late = muster(server, "group", "failover", "slow", "--wait")
    assert (late.exit_code, late.stderr) == (
        3,
        "FailoverTimeout: group/slow/failover/2 was given up: the cut-over took longer than 1 s\n",
    )


def test_a_list_of_groups_has_only_the_ends_of_a_long_reason(server: ControllerProcess) -> None:
    shown(server, "group", "create", "wordy", "--member", "a", *PATIENT)
    incarnation = runs(server, "wordy", "a")
    says(server, "wordy", "a", "report", incarnation=incarnation, outcome="failed", why=1_000 * "!" + " no room")
    assert 1_000 * "!" + " no room" in shown(server, "group", "show", "wordy").replace("\n", "")
    listed = shown(server, "groups")
    assert 0 < listed.count("!") <= 400
    assert "no room" in listed


def test_members_are_named_with_their_priorities(server: ControllerProcess) -> None:
    shown(server, "group", "create", "named", "--member", "a:7", "--member", "b")
    shown(server, "group", "add", "named", "c", "--priority", "3")
    members = told(server, "group", "show", "named")["members"]
    assert {member["member"]: member["priority"] for member in members} == {"a": 7, "b": 1, "c": 3}
    for wrong in ("a:x", "a:-1", "a:", "a:²"):
        assert muster(server, "group", "create", "x", "--member", wrong).exit_code == 2
    assert muster(server, "group", "create", "x", "--member", "a", "--member", "a:2").exit_code == 2


@pytest.mark.parametrize("odd", [("--max-lag", str(1 << 64)), ("--service", "\udcff"), ("--member", f"a:{1 << 64}")])
def test_what_nobody_can_mean_is_refused_and_never_unexpected(server: ControllerProcess, odd: tuple[str, str]) -> None:
    refused = muster(server, "group", "create", "odd", *odd)
    assert (refused.exit_code, refused.stderr.partition(":")[0]) == (1, "InvalidCommand")
    refused = muster(server, "group", "add", "odd", "\udcff")
    assert (refused.exit_code, refused.stderr.partition(":")[0]) == (1, "InvalidCommand")


@pytest.mark.parametrize(
    "wrong",
    [
        ("--hook-timeout", "nan"),
        ("--hook-timeout", "0"),
        ("--hook-timeout", "inf"),
        ("--stop-timeout", "-1"),
        ("--address", "h:²"),
        ("--address", "h:" + "9" * 5_000),
        ("--service", "a b"),
    ],
)
def test_a_runner_whose_options_cannot_be_meant_is_not_begun(wrong: tuple[str, str]) -> None:
    refused = muster(None, "group", "run", "db", "--as", "db1", *wrong, "--", "true")
    assert refused.exit_code == 2
    assert f"Invalid value for '{wrong[0]}'" in refused.stderr
