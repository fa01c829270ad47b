"""What the tests of a balancer share: a real controller, a client of it, and a session for calls."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from muster import (
    Client,
)
from tests.muster.controller import controller


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with controller(tmp_path / "data") as started:
        yield started


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, actor="test") as opened:
        yield opened


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened
