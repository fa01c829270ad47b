"""The tests' own helpers: what they say when they fail, and what a pure test loads because of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from domain.registry import service
from domain.registry.instance import InstanceMaintenanceCleared
from muster.wire.registry.spec import Spec
from tests.given import given

ROOT = Path(__file__).parents[2]
CLIENTS_OF_SERVERS = {"aiokafka", "asyncpg", "fastapi", "uvicorn"}
PURE = (
    "tests/domain",
    "tests/infra/log/test_chain.py",
    "tests/infra/log/test_codec.py",
    "tests/muster/wire",
    "tests/projections/test_projections.py",
    "tests/sagas/test_engine.py",
    "tests/sagas/test_explain.py",
    "tests/sagas/test_shard_migration.py",
    "tests/workers/health/test_streak.py",
    "tests/workers/machine",
)
COLLECT = """
import sys, pytest
assert pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[1:]]) == 0
print("loaded:", *sorted(name for name in sys.modules if "." not in name))
"""


def test_a_helper_that_fails_says_what_it_compared() -> None:
    registers = service.RegisterInstance(instance="a", spec=Spec(address="10.0.0.7", port=80))
    with pytest.raises(AssertionError, match=r"InstanceRegistered\(.* != InstanceMaintenanceCleared\("):
        given().when(registers).then(InstanceMaintenanceCleared(instance="a"))


def test_pure_tests_load_no_client_of_a_server() -> None:
    command = [sys.executable, "-c", COLLECT, *PURE]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert listed.returncode == 0, listed.stdout + listed.stderr
    loaded = set(listed.stdout.rpartition("loaded:")[2].split())
    assert {"domain", "sagas", "projections", "workers"} <= loaded
    assert not loaded & CLIENTS_OF_SERVERS
