"""A client that commits rows at whoever leads, all the time, and remembers what was acknowledged.

python -m examples.postgres.writer --group db --url http://127.0.0.1:8740 --password-file FILE

Until Ctrl-C or SIGTERM; then it looks whether the primary lacks any row that was acknowledged. Exit code 1: it does.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from muster import Group, MusterError, NoPrimary, Primary

HOLD_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.02
TELL_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 3.0
CUT_OFF: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a connection raises when it cannot be had, or its server has gone. The last one is asyncpg's own word for a server that is
killed in the middle of an answer.
"""


class Acknowledged(NamedTuple):
    """A row whose commit was acknowledged: when, on `time.monotonic`, and by the primary of which epoch."""

    row: int
    at: float
    epoch: int


async def connected(address: str, password: str) -> asyncpg.Connection:
    """A connection to the server at the address, as the superuser. Raises what is in CUT_OFF."""
    host, _, port = address.rpartition(":")
    return await asyncpg.connect(
        host=host,
        port=int(port),
        user="postgres",
        password=password,
        database="postgres",
        ssl=False,
        timeout=CONNECT_SECONDS,
        command_timeout=60,
    )


class Writer:
    """Rows in the table `written`, one commit each. A row whose fate is unknown is left behind, and the next one is written."""

    def __init__(self, group: str, url: str, password: str) -> None:
        self._group = group
        self._url = url
        self._password = password
        self._row = 0
        self.acknowledged: list[Acknowledged] = []

    async def write(self) -> None:
        """Write, until it is cancelled; a failover is waited out."""
        async with Group(self._group, self._url, hold_seconds=HOLD_SECONDS) as group:
            while True:
                try:
                    await self._write_at(await group.primary())
                except (*CUT_OFF, NoPrimary):
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _write_at(self, primary: Primary) -> None:
        """Write at this primary. The server itself refuses once it leads no more: it is a standby then, or does not run."""
        connection = await connected(primary.address, self._password)
        try:
            await connection.execute("CREATE TABLE IF NOT EXISTS written (row bigint PRIMARY KEY)")
            # What an earlier client has written is there too.
            self._row = max(self._row, await connection.fetchval("SELECT coalesce(max(row), 0) FROM written"))
            while True:
                self._row += 1
                await connection.execute("INSERT INTO written VALUES ($1)", self._row)
                self.acknowledged.append(Acknowledged(self._row, time.monotonic(), primary.epoch))
        finally:
            connection.terminate()

    async def missing(self) -> tuple[str, int]:
        """Who leads now, and how many of the acknowledged rows it does not have."""
        async with Group(self._group, self._url, hold_seconds=HOLD_SECONDS) as group:
            primary = await group.primary()
        connection = await connected(primary.address, self._password)
        try:
            return primary.member, len(
                self.lacking(await connection.fetchval("SELECT array_agg(row) FROM written") or ())
            )
        finally:
            await connection.close()

    def lacking(self, rows: Iterable[int]) -> set[int]:
        """Those of the acknowledged rows that are not among these."""
        return {one.row for one in self.acknowledged} - set(rows)


async def tell(writer: Writer) -> None:
    """Say again and again how many rows were acknowledged."""
    while True:
        await asyncio.sleep(TELL_SECONDS)
        newest = writer.acknowledged[-1].epoch if writer.acknowledged else 0
        print(f"epoch {newest}: {len(writer.acknowledged):,} rows acknowledged", flush=True)


async def until_stopped(writer: Writer) -> int:
    """Write until a signal comes. Returns how many acknowledged rows the primary lacks then."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    tasks = [asyncio.create_task(each) for each in (writer.write(), tell(writer), stopped.wait())]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in done:
        task.result()  # Only what has gone wrong ends the other two.
    member, missing = await writer.missing()
    print(f"{len(writer.acknowledged):,} rows were acknowledged; {member} lacks {missing} of them")
    return missing


def main() -> int:
    """0: nothing is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", default="db")
    parser.add_argument("--url", default="http://127.0.0.1:8740")
    parser.add_argument("--password-file", type=Path, required=True, help="the superuser's, as in a member's folder")
    chosen = parser.parse_args()
    writer = Writer(chosen.group, chosen.url, chosen.password_file.read_text().strip())
    try:
        return 1 if asyncio.run(until_stopped(writer)) else 0
    except (MusterError, *CUT_OFF) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
