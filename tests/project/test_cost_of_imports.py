"""What it costs to import `muster` and to ask its command line something: processor time of a process of its own.

The bounds are those of a quiet machine with two slow cores. A busy machine makes each reading longer, so the best of
several counts, and no more are taken than are needed.
"""

import os
import subprocess
import sys

import pytest

READINGS = 10


def seconds(*words: str) -> float:
    """User and system time of a Python that runs these words to its end."""
    before = os.times()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, timeout=60)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["-c", "import muster"], 0.15),
        (["-m", "muster", "--version"], 0.2),
        (["-m", "muster", "--help"], 1.0),
        (["-m", "muster", "services", "--help"], 0.45),
        (["-m", "muster", "register", "--help"], 0.45),
        (["-m", "muster", "nodes", "--help"], 0.45),
        (["-c", "import muster; muster.Client"], 0.9),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_start_costs_little(words: list[str], allowed: float) -> None:
    readings: list[float] = []
    while len(readings) < READINGS and min(readings, default=allowed + 1) > allowed:
        readings.append(seconds(*words))
    assert min(readings) <= allowed, readings


def test_the_version_and_the_help_of_a_command_load_no_client() -> None:
    listing = """
import sys, click
from muster.cli import main
for words in (["--version"], ["services", "--help"], ["register", "--help"]):
    try:
        main(words)
    except SystemExit:
        pass
print("loaded:", *sorted(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(run.stdout.rpartition("loaded:")[2].split())
    assert "muster.cli.registry.read" in loaded
    assert not loaded & {"aiohttp", "aiokafka", "grpc", "rich", "workers"}
