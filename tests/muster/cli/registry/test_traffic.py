"""`muster traffic`: what operators set for the clients of a service."""

from tests.muster.cli.commands import muster, shown, told
from tests.muster.controller import ControllerProcess


def test_it_is_set_shown_listed_and_taken_back(server: ControllerProcess):
    assert shown(server, "traffic", "show", "till").startswith("till: nothing was ever set")
    options = ["--policy", "round_robin", "--slow-start", "30", "--no-limit", "--eject-after", "3"]
    assert "policy round_robin" in shown(
        server, "traffic", "set", "till", *options, "--report-seconds", "0", "--reason", "alike"
    )
    text = shown(server, "traffic", "show", "till")
    assert "set by cli@test" in text
    assert "alike" in text
    rows = {words[0]: words[1:] for line in text.splitlines()[2:] if (words := line.split())}
    assert rows["policy"] == ["round_robin", "operator"]
    assert rows["limit"] == ["no", "operator"]
    assert rows["slow_start_seconds"] == ["30", "operator"]
    assert rows["retry_share"] == ["0.2", "default"]
    assert rows["report_seconds"] == ["0", "operator"]

    listed = shown(server, "traffic", "list")
    assert "policy=round_robin" in listed
    shown(server, "traffic", "set", "till", "--default", "policy", "--default", "limit")
    document = told(server, "traffic", "show", "till")
    assert (document["policy"], document["limit"], document["eject_after"]) == (None, None, 3)
    [row] = [row for row in told(server, "traffic", "list")["items"] if row["service"] == "till"]
    assert row == document


def test_to_set_nothing_is_wrong_on_the_command_line(server: ControllerProcess):
    result = muster(server, "traffic", "set", "till", "--reason", "why")
    assert result.exit_code == 2
    assert "nothing is to be set" in result.stderr
    assert muster(server, "traffic", "set", "till", "--policy", "fastest").exit_code == 2


def test_what_the_controller_refuses_is_told(server: ControllerProcess):
    result = muster(server, "traffic", "set", "till", "--in-flight-max", "0")
    assert (result.exit_code, result.stderr.partition(":")[0]) == (1, "InvalidCommand")
