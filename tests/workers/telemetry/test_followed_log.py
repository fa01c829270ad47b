"""Which instances there are, by the log and by a snapshot that fits it, or does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from domain.telemetry.partition import BeatsPartition
from infra.log.port import START
from infra.log.snapshot import PartitionSnapshot
from tests.workers.telemetry.fleet import register_all
from tests.workers.telemetry.test_desk import SPEC, NoSnapshots, World
from workers.telemetry import followed_log
from workers.telemetry.followed_log import follow
from workers.views.stored_state import revision

OF_ANOTHER_LOG = START._replace(position=1, head_position=1, head=b"x" * 32, term=1)


class OneSnapshot(NoSnapshots):
    """Always the same, of no instances."""

    def __init__(self, made_by: str) -> None:
        self._snapshot = PartitionSnapshot(OF_ANOTHER_LOG, made_by, {}, [])

    async def load(self, partition: int) -> PartitionSnapshot | None:
        return self._snapshot


@pytest.fixture
async def world() -> World:
    made = World()
    await register_all(made.log, {"orders": ["a", "b"]}, lambda _number: SPEC)
    return made


@asynccontextmanager
async def followed(world: World, snapshots: NoSnapshots) -> AsyncIterator[list[BeatsPartition]]:
    """The states that were begun, once the end of the log was reached."""
    states: list[BeatsPartition] = []
    caught_up = asyncio.Event()

    def begin() -> BeatsPartition:
        states.append(BeatsPartition())
        return states[-1]

    following = asyncio.create_task(follow(world.log, snapshots, begin, caught_up.set))
    try:
        async with asyncio.timeout(10):
            await caught_up.wait()
        yield states
    finally:
        following.cancel()
        await asyncio.wait([following])


async def test_a_snapshot_of_another_log_is_given_up_and_the_log_is_read_into_a_new_state(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_log, "_AGAIN_SECONDS", 0.0)
    async with followed(world, OneSnapshot(revision())) as (refused, read):
        assert refused.counts() == (0, 0)
        assert read.counts() == (2, 0)


async def test_a_snapshot_that_other_code_has_made_is_left_and_the_log_is_read(world: World) -> None:
    async with followed(world, OneSnapshot("another")) as (read,):
        assert read.counts() == (2, 0)
