"""Writers and readers of a keyspace, until SIGTERM; what they asked and were told is in the journal.

    python -m examples.shards.traffic --url http://127.0.0.1:8740 --keyspace users --journal FILE --name t1

Prints `ready` when its own keys are there, and one JSON object at its end: writes, reads, exceptions, retries by cause,
the longest write in seconds.
"""

import argparse
import asyncio
import random
import signal
import sys
import time
from pathlib import Path
from typing import Final

import orjson

from examples.shards.journal import Journal
from muster import Applied, Keyspace, Put

VALUE_BYTES: Final = 120
PRELOADED_BYTES: Final = 1_000
PRELOAD_BATCH: Final = 200
DELETES: Final = 0.05


class Traffic:
    """`writers` tasks, each with `keys` keys of its own, at `per_second` writes in all; `readers` tasks read any of them."""

    def __init__(self, keyspace: Keyspace, journal: Journal, options: argparse.Namespace) -> None:
        self._keyspace = keyspace
        self._journal = journal
        self._options = options
        self._random = random.Random(options.seed)
        self._stopping = asyncio.Event()
        self.writes = self.reads = 0
        self.failed: list[str] = []

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    async def run(self) -> None:
        """Write and read until stopped; what is under way then is waited for."""
        pace = self._options.writers / self._options.per_second
        async with asyncio.TaskGroup() as tasks:
            for writer in range(self._options.writers):
                tasks.create_task(self._write(writer, pace))
            for _ in range(self._options.readers):
                tasks.create_task(self._read(pace))

    async def preload(self) -> None:
        """Put the keys that nobody changes later, in batches."""
        for first in range(0, self._options.preload, PRELOAD_BATCH):
            numbers = range(first, min(first + PRELOAD_BATCH, self._options.preload))
            ids = [f"{self._options.name}-preload-{number}" for number in numbers]
            puts = [
                Put(self._key(-1, number), _value(number, PRELOADED_BYTES), id_)
                for id_, number in zip(ids, numbers, strict=True)
            ]
            for id_, put, number in zip(ids, puts, numbers, strict=True):
                self._journal.note("write", id_, put.key, number, time.monotonic())
            for id_, result in zip(ids, await self._keyspace.batch(puts), strict=True):
                assert isinstance(result, Applied), result
                self._journal.note("done", id_, time.monotonic(), result.shard, result.position, result.epoch)

    async def _write(self, writer: int, pace: float) -> None:
        number, next_at = 0, time.monotonic() + self._random.random() * pace
        while not await self._stopped(next_at):
            number, next_at = number + 1, next_at + pace
            key = self._key(writer, self._random.randrange(self._options.keys))
            await self._one_write(f"{self._options.name}-{writer}-{number}", key, number)

    async def _one_write(self, id_: str, key: str, number: int) -> None:
        deletes = self._random.random() < DELETES
        self._journal.note("write", id_, key, None if deletes else number, time.monotonic())
        try:
            applied = await self._asked(id_, key, None if deletes else number)
        except Exception as error:  # noqa: BLE001 whatever reaches the caller is what the journal is for
            self.failed.append(f"{type(error).__name__}: {error}")
            self._journal.note("failed", id_, time.monotonic(), self.failed[-1])
        else:
            self.writes += 1
            self._journal.note("done", id_, time.monotonic(), applied.shard, applied.position, applied.epoch)

    async def _asked(self, id_: str, key: str, number: int | None) -> Applied:
        if number is None:
            return await self._keyspace.delete(key, write_id=id_)
        return await self._keyspace.put(key, _value(number, VALUE_BYTES), write_id=id_)

    async def _read(self, pace: float) -> None:
        next_at = time.monotonic()
        while not await self._stopped(next_at):
            next_at += pace
            key = self._key(self._random.randrange(self._options.writers), self._random.randrange(self._options.keys))
            began = time.monotonic()
            try:
                value = await self._keyspace.get(key)
            except Exception as error:  # noqa: BLE001 whatever reaches the caller is what the journal is for
                self.failed.append(f"{type(error).__name__}: {error}")
            else:
                self.reads += 1
                self._journal.note("read", key, began, time.monotonic(), None if value is None else int(value))

    def _key(self, writer: int, number: int) -> str:
        return f"{self._options.name}/{writer}/{number}"

    async def _stopped(self, until: float) -> bool:
        """Wait until the instant; whether the end came first."""
        try:
            async with asyncio.timeout_at(until - time.monotonic() + asyncio.get_running_loop().time()):
                return await self._stopping.wait()
        except TimeoutError:
            return False


def _value(number: int, size: int) -> bytes:
    return (b"%d" % number).ljust(size)


async def play(options: argparse.Namespace) -> int:
    """Run to the end; the exit code."""
    journal = Journal(options.journal)
    async with Keyspace(options.keyspace, options.url, hold_seconds=options.hold_seconds) as keyspace:
        traffic = Traffic(keyspace, journal, options)
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, traffic.stop)
        await traffic.preload()
        print("ready", flush=True)
        await traffic.run()
        told = {
            "writes": traffic.writes,
            "reads": traffic.reads,
            "failed": traffic.failed,
            "retries": keyspace.statistics.retries,
            "longest_write_seconds": keyspace.statistics.longest_write_seconds,
        }
    journal.close()
    print(orjson.dumps(told).decode(), flush=True)
    return 0


def main() -> int:
    """0: it was stopped in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--keyspace", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--name", default="t")
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--keys", type=int, default=40, help="of each writer")
    parser.add_argument("--per-second", type=float, default=300.0, help="writes in all")
    parser.add_argument("--preload", type=int, default=0, help="keys that are put before, and never changed")
    parser.add_argument("--hold-seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    return asyncio.run(play(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
