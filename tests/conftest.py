"""Fixtures for all tests: the shared real servers."""

pytest_plugins = ["tests.fixtures_servers"]
