"""Fixtures for all tests: the shared real servers."""

from pathlib import Path

import pytest
from hypothesis import settings

# Before any helper is imported: an assertion in a helper says what it compared, as one in a test does.
pytest.register_assert_rewrite(*(f"tests.{entry.stem}" for entry in Path(__file__).parent.glob("[!_]*")))
pytest_plugins = ["tests.fixtures"]

# How long an example takes says more about the machine than about the code.
settings.register_profile("muster", deadline=None)
settings.load_profile("muster")
