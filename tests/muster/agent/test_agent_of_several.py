"""The participant between several controllers: one falls silent or is away, and the lease is held at another."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.muster.agent.node_control import NodeControl, node_control
from tests.muster.agent.test_agent import LEASE, Participant, running, until


@asynccontextmanager
async def between_two() -> AsyncIterator[tuple[Participant, NodeControl, NodeControl]]:
    """A participant that has joined at the first of two controllers, and serves."""
    async with node_control() as one, node_control() as other:
        here = Participant(one, url=f"{one.url},{other.url}")
        async with running(here):
            await until(lambda: here.serves)
            yield here, one, other


async def serves_for(here: Participant, seconds: float) -> bool:
    """Whether it may serve at every moment from now on."""
    ends_at = time.monotonic() + seconds
    while here.serves and time.monotonic() < ends_at:  # noqa: ASYNC110 what is looked at is the clock
        await asyncio.sleep(0.005)
    return time.monotonic() >= ends_at


@pytest.mark.parametrize("trouble", ["silent", "not ready"])
async def test_the_lease_is_held_at_another_controller_without_a_moment_in_which_it_may_not_serve(trouble: str) -> None:
    async with between_two() as (here, one, other):
        if trouble == "silent":
            one.talks.clear()
        else:
            one.away = True
        assert await serves_for(here, 2 * LEASE)
        # The same membership: it has not joined anew.
        assert (len(one.joins), other.joins) == (1, [])
        assert "renew 1" in other.asked


async def test_its_tasks_are_followed_at_another_controller() -> None:
    async with between_two() as (_, one, other):
        await until(lambda: one.watched == ["strong"])
        one.break_off()
        await until(lambda: one.watched + other.watched == ["strong", "strong"])
