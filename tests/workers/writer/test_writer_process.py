"""Writers in real processes that are killed, and stopped for longer than a lease."""

import asyncio
import multiprocessing
import os
import random
import signal
from contextlib import contextmanager, suppress

import pytest

from infra.kafka.log import KafkaLog
from infra.kafka.provision import provision
from infra.log.port import START
from tests.workers.writer.child import (
    BATCH_RECORDS,
    INSTANCES,
    LEASE_SECONDS,
    append_to_kafka,
    append_to_sqlite,
    reign,
    sqlite_log,
)

pytestmark = pytest.mark.process

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.workers.writer.child"])
kills = 200


@contextmanager
def process(target, *arguments):
    """A process that runs the target, and our end of its pipe; killed at the end of the block."""
    ours, theirs = FORKED.Pipe()
    child = FORKED.Process(target=target, args=(*arguments, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        yield child, ours
    finally:
        child.kill()
        child.join()
        ours.close()


def told_since(pipe):
    """All that the process had still told before it was killed."""
    with suppress(EOFError, ConnectionResetError):
        while True:
            yield pipe.recv()


@pytest.mark.timeout(90)
async def test_killing_the_writer_at_any_moment_leaves_whole_batches_only(tmp_path):
    path = tmp_path / "log.sqlite"
    await killed_again_and_again(append_to_sqlite, path, sqlite_log(path))


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_killing_the_writer_at_any_moment_leaves_whole_batches_only_on_kafka(kafka):
    await provision(kafka.bootstrap, prefix="killed", partitions=1)
    async with KafkaLog(kafka.bootstrap, 0, prefix="killed") as log:
        await killed_again_and_again(append_to_kafka, (kafka.bootstrap, "killed"), log)


async def killed_again_and_again(append, place, log):
    """Writers at the place, one after the other, each killed at a random moment; `log` reads what they leave."""
    chance, cursor = random.Random(7), START
    for _ in range(kills):
        with process(append, place, cursor) as (child, pipe):
            acknowledged = [pipe.recv() for _ in range(chance.randint(1, 3))]
            # Anywhere within an append: one takes about three milliseconds.
            await asyncio.sleep(chance.uniform(0, 0.004))
            child.kill()
            child.join()
            acknowledged += told_since(pipe)
        batches = [batch async for batch in log.read(cursor)]
        assert {len(batch.records) for batch in batches} <= {0, BATCH_RECORDS}
        cursor = batches[-1].cursor
        assert cursor.position - acknowledged[-1] in (0, BATCH_RECORDS), (
            "an acknowledged batch is there; one more may be"
        )
    assert cursor.term == kills
    assert [batch.cursor async for batch in log.read(START)][-1] == cursor


@pytest.mark.timeout(60)
async def test_a_writer_that_was_stopped_for_longer_than_a_lease_expires_nothing_in_a_burst(tmp_path):
    path = tmp_path / "log.sqlite"
    with process(reign, path) as (child, pipe):
        assert pipe.recv() == ["unchanged"] * INSTANCES
        os.kill(child.pid, signal.SIGSTOP)
        await asyncio.sleep(2.5 * LEASE_SECONDS)
        os.kill(child.pid, signal.SIGCONT)
        assert [pipe.recv() for _ in range(5)] == [["unchanged"] * INSTANCES] * 5
        assert await _types(path) == ["registered"] * INSTANCES
        pipe.send("be quiet")
        gone = ["registered"] * INSTANCES + ["lease_expired", "deregistered"] * INSTANCES
        for _ in range(100):
            if await _types(path) == gone:
                break
            await asyncio.sleep(LEASE_SECONDS / 10)
        assert await _types(path) == gone, "and without a sign of life they do expire"


async def _types(path):
    return [
        document["type"].split(".")[2] async for batch in sqlite_log(path).read(START) for _, document in batch.records
    ]
