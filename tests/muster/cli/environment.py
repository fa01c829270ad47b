"""What the environment of the tests lacks of the command line."""

import os
import tomllib
from importlib.metadata import entry_points
from pathlib import Path


def not_set_up() -> set[str]:
    """Commands of the server that this environment has no entry point of: it was set up before there were any. `make setup`."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    missing = set(project["entry-points"]["muster.commands"])
    missing -= {found.name for found in entry_points(group="muster.commands")}
    assert not missing or not os.environ.get("CI"), f"{missing} have no entry points: `make setup`"
    # The entry point of a command of a group joins both words.
    return {name.replace("-", " ") for name in missing}
