"""What all tests share: the real servers, how long an example may take, how Java compiles, and the order."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before any helper is imported: an assertion in a helper says what it compared, as one in a test does.
pytest.register_assert_rewrite(*(f"tests.{entry.stem}" for entry in Path(__file__).parent.glob("[!_]*")))
pytest_plugins = ["tests.fixtures"]

# How long an example takes says more about the machine than about the code.
settings.register_profile("muster", deadline=None)
settings.load_profile("muster")

# A broker of a test lives for seconds: code is compiled quickly, for it would not run long enough to pay for more.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that are given the most time: whoever had one of them left at the end would work alone."""

    def seconds(item: pytest.Item) -> float:
        given = item.get_closest_marker("timeout")
        return float(given.args[0]) if given else 0

    items.sort(key=seconds, reverse=True)
