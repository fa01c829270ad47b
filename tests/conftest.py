"""Fixtures for all tests: the shared real servers."""

from hypothesis import settings

pytest_plugins = ["tests.servers"]

# How long an example takes says more about the machine than about the code.
settings.register_profile("muster", deadline=None)
settings.load_profile("muster")
