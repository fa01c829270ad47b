"""Scenario transcripts, in files beside this one: played line by line, and compared with what was written down.

`REWRITE=1 python -m pytest tests/scenarios/test_scenarios.py` writes what is observed now; read the diff.
"""

import os
from pathlib import Path

import pytest

from tests.moves.move_scenario import MoveScenario
from tests.sagas.groups.group_scenario import GroupScenario
from tests.scenarios.scenario import Scenario

PLAYERS = {"moves": MoveScenario, "groups": GroupScenario}
FILES = sorted(Path(__file__).parent.rglob("*.txt"))


def observed(text: str, scenario: Scenario | MoveScenario | GroupScenario) -> str:
    """The transcript as it comes out now: blocks of comments, a command, `----` and the observation."""
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.partition("\n----\n")[0].splitlines()
        commands = [line for line in lines if not line.startswith("#")]
        told = "".join(map(scenario.play, commands))
        blocks.append("\n".join(lines) + (f"\n----\n{told}" if commands else "\n"))
    return "\n".join(blocks)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_runs_as_it_is_written(file):
    text = file.read_text()
    told = observed(text, PLAYERS.get(file.parent.name, Scenario)())
    if os.environ.get("REWRITE"):
        file.write_text(told)
    else:
        assert told == text, f"REWRITE=1 writes {file.name} anew; read the diff"


def test_there_are_scenarios():
    assert len(FILES) >= 22
