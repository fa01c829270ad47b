"""`muster telemetry` where it cannot run: one line that says why, and an exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENTRY = "from workers.cli.telemetry import telemetry; telemetry()"


def ended(entry: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", entry, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.process
def test_without_the_extra_it_says_what_to_install() -> None:
    # As if it were not installed: that is what None among the modules means to Python.
    told = ended(f"import sys; sys.modules['faust'] = None; {ENTRY}", "--kafka", "127.0.0.1:9092")
    assert told.returncode == 1
    assert told.stderr == "`telemetry` needs faust-streaming: pip install 'musterd[telemetry]'\n"


@pytest.mark.process
def test_kafka_has_to_be_named() -> None:
    told = ended(ENTRY)
    assert told.returncode == 2
    assert "--kafka" in told.stderr
