"""What the tests of both HTTP clients stand on: three copies of users, and a balancer that takes turns."""

from collections.abc import AsyncIterator

import pytest

from muster import Balancer
from tests.muster.balance.hooks.copies import Copy, copies


@pytest.fixture
async def three(url: str) -> AsyncIterator[list[Copy]]:
    async with copies(url, 3) as made:
        yield made


@pytest.fixture
async def users(url: str, three: list[Copy]) -> AsyncIterator[Balancer]:
    async with Balancer("users", url, policy="round_robin", eject_after=0, timeout_seconds=5) as users:
        yield users
