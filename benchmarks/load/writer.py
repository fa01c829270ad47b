"""Writes to a keyspace at a steady pace, whether or not the earlier ones are answered, in a process of its own.

    python -m benchmarks.load.writer URL KEYSPACE PER_SECOND HOLD_SECONDS

It writes until its standard input ends, round enough keys that no two writes of one are under way together. Then it reads
all of them: a key without its last acknowledged value is lost. Prints `ready` after the first write, and at its
end JSON: when each acknowledged write was sent (seconds since 1970) and how long it took, errors by name, retries, how many
values were lost, how far behind its own pace it ever was, and its share of a core.
"""

import asyncio
import sys
import time
from collections import Counter
from typing import Any, Final

import orjson

from benchmarks.data import key
from muster.keyspace.keyspace import Keyspace
from muster.keyspace.operation import Get
from muster.wire.error import MusterError

KEYS: Final = 20_000
_READ_AT_ONCE: Final = 1_000


class Writer:
    """`sent_at` and `seconds` of the acknowledged writes, in the order of their answers."""

    def __init__(self, users: Keyspace) -> None:
        self._users = users
        self._last: dict[int, bytes] = {}
        self._unknown: set[int] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self.sent_at: list[float] = []
        self.seconds: list[float] = []
        self.errors: Counter[str] = Counter()
        self.latest = 0.0

    async def write(self, number: int) -> None:
        """One write."""
        sent_at, began, value = time.time(), time.perf_counter(), b"%099d" % number
        try:
            await self._users.put(key(number % KEYS), value)
        except MusterError as error:
            self.errors[error.name] += 1
            self._unknown.add(number % KEYS)
        else:
            self.sent_at.append(sent_at)
            self.seconds.append(time.perf_counter() - began)
            self._last[number % KEYS] = value

    async def keep_pace(self, per_second: float, until: asyncio.Event) -> None:
        """Begin writes at this rate a second; return when all are answered."""
        began, number = time.monotonic(), 0
        while not until.is_set():
            number += 1
            due = began + number / per_second
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self.latest = max(self.latest, -wait)
            task = asyncio.create_task(self.write(number))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        await asyncio.gather(*self._under_way)

    async def lost(self) -> int:
        """How many keys do not hold what was acknowledged last."""
        certain = [number for number in self._last if number not in self._unknown]
        lost = 0
        for at in range(0, len(certain), _READ_AT_ONCE):
            some = certain[at : at + _READ_AT_ONCE]
            found = await self._users.batch([Get(key(number)) for number in some])
            lost += sum(value != self._last[number] for number, value in zip(some, found, strict=True))
        return lost


async def run(url: str, keyspace: str, per_second: float, hold_seconds: float) -> dict[str, Any]:
    """Write until told to stop."""
    async with Keyspace(keyspace, url, hold_seconds=hold_seconds) as users:
        writer, until = Writer(users), asyncio.Event()
        await writer.write(0)
        print("ready", flush=True)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), until.set)
        cpu, began = time.process_time(), time.perf_counter()
        await writer.keep_pace(per_second, until)
        taken = time.perf_counter() - began
        used = time.process_time() - cpu
        return {
            "sent_at": writer.sent_at[1:],
            "seconds": writer.seconds[1:],
            "errors": dict(writer.errors),
            "retries": sum(users.statistics.retries.values()),
            "lost": await writer.lost(),
            "latest_ms": writer.latest * 1e3,
            "per_second": len(writer.seconds) / taken,
            "generator_core_percent": used / taken * 100,
        }


if __name__ == "__main__":
    _, at, name, pace, hold = sys.argv
    print(orjson.dumps(asyncio.run(run(at, name, float(pace), float(hold)))).decode())
