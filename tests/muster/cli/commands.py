"""Commands against a controller, as a user types them."""

import json
from typing import Any

from click.testing import CliRunner, Result

from muster.cli import main
from tests.muster.controller import ControllerProcess, free_port


def muster(server: ControllerProcess | None, *words: str, stdin: str | None = None) -> Result:
    url = server.url if server else f"http://127.0.0.1:{free_port()}"
    return CliRunner().invoke(main, words, env={"MUSTER_URL": url, "MUSTER_ACTOR": "cli@test"}, input=stdin)


def told(server: ControllerProcess, *words: str) -> Any:
    """The JSON document of a command that succeeds."""
    result = muster(server, *words, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def shown(server: ControllerProcess, *words: str) -> str:
    """The text of a command that succeeds."""
    result = muster(server, *words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_several_controllers_are_tried_in_turn(server: ControllerProcess):
    away = f"http://127.0.0.1:{free_port()}"
    for urls in (f"{away},{server.url}", f"{server.url}, {away}"):
        result = CliRunner().invoke(main, ["services", "--json"], env={"MUSTER_URL": urls})
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, ["services", "--url", f"{away},{away}/x", "--timeout", "0.3"])
    assert (result.exit_code, result.stderr.partition(":")[0]) == (3, "Unreachable")


def test_what_is_no_address_of_a_controller_is_wrong_on_the_command_line():
    result = CliRunner().invoke(main, ["services", "--url", "http://a,127.0.0.1:8740"])
    assert result.exit_code == 2
    assert "'127.0.0.1:8740' is no address of a controller" in result.stderr


def test_a_controller_of_another_cluster_refuses(server: ControllerProcess):
    words = ["register", "shop", "strange", "--address", "10.0.0.7", "--port", "80"]
    for more, variables in ((["--cluster", "blue"], {}), ([], {"MUSTER_CLUSTER": "blue"})):
        result = CliRunner().invoke(main, [*words, *more], env={"MUSTER_URL": server.url, **variables})
        assert result.exit_code == 1
        assert result.stderr.startswith(
            "WrongCluster: this controller is of the cluster 'default', and 'blue' is meant"
        )
    assert told(server, "services", "--cluster", "default")["items"] == []
