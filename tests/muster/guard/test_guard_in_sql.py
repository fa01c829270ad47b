"""The guard in SQL, as the documents have it, on a real PostgreSQL."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest

pytestmark = pytest.mark.postgres
DOCUMENTS: Final = Path(__file__).parents[3] / "docs"
LEVELS: Final = ("read committed", "repeatable read", "serializable")


def snippet() -> str:
    """What the documents tell people to run."""
    texts = [file.read_text(encoding="utf-8") for file in sorted(DOCUMENTS.glob("groups*.md"))]
    blocks = [block for text in texts for block in re.findall(r"^```sql\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
    [found] = [block for block in blocks if "CREATE FUNCTION muster_check" in block]
    return found


@pytest.fixture
async def newer(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    await connection.execute(snippet())
    await connection.execute("CREATE TABLE entries (at serial, epoch bigint)")
    yield connection
    await connection.close()


@pytest.fixture
async def older(newer: asyncpg.Connection, database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def write(connection: asyncpg.Connection, epoch: int, isolation: str = "read committed") -> None:
    """A transaction of the primary of this epoch."""
    async with connection.transaction(isolation=isolation.replace(" ", "_")):
        await connection.execute("SELECT muster_check('db', $1)", epoch)
        await connection.execute("INSERT INTO entries (epoch) VALUES ($1)", epoch)


async def until_it_waits(connection: asyncpg.Connection, waiting: int) -> None:
    """Until the server's process with this id waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'"
    async with asyncio.timeout(60):
        while await connection.fetchval(query, waiting) == 0:  # noqa: ASYNC110 the server tells nobody
            await asyncio.sleep(0.01)


async def has(connection: asyncpg.Connection, *epochs: int) -> None:
    """What stands in the table, in the order in which it was written, is of these epochs."""
    assert [row["epoch"] for row in await connection.fetch("SELECT epoch FROM entries ORDER BY at")] == list(epochs)


@pytest.mark.parametrize("isolation", LEVELS)
async def test_the_transaction_of_an_older_epoch_is_refused(
    older: asyncpg.Connection, newer: asyncpg.Connection, isolation: str
) -> None:
    await write(older, 7, isolation)
    await write(newer, 8, isolation)
    with pytest.raises(asyncpg.PostgresError, match="epoch 7 is over; the epoch is 8") as refused:
        await write(older, 7, isolation)
    assert (refused.value.sqlstate, refused.value.detail) == ("MU409", "8")
    await write(newer, 8, isolation)
    await has(newer, 7, 8, 8)


@pytest.mark.parametrize("isolation", LEVELS)
async def test_a_newer_epoch_waits_for_the_older_transaction_and_comes_behind_it(
    older: asyncpg.Connection, newer: asyncpg.Connection, database: str, isolation: str
) -> None:
    await write(older, 7)
    observer = await asyncpg.connect(database)
    async with older.transaction(isolation=isolation.replace(" ", "_")):
        await older.execute("SELECT muster_check('db', 7)")
        following = asyncio.create_task(write(newer, 8, isolation))
        await until_it_waits(observer, newer.get_server_pid())
        await older.execute("INSERT INTO entries (epoch) VALUES (7)")
    await following
    await has(observer, 7, 7, 8)
    await observer.close()


@pytest.mark.parametrize("isolation", LEVELS)
async def test_an_older_transaction_that_waits_for_a_newer_one_is_refused(
    older: asyncpg.Connection, newer: asyncpg.Connection, database: str, isolation: str
) -> None:
    observer = await asyncpg.connect(database)
    async with newer.transaction():
        await newer.execute("SELECT muster_check('db', 8)")
        late = asyncio.create_task(write(older, 7, isolation))
        await until_it_waits(observer, older.get_server_pid())
        await newer.execute("INSERT INTO entries (epoch) VALUES (8)")
    with pytest.raises(asyncpg.PostgresError) as refused:
        await late
    assert refused.value.sqlstate == ("MU409" if isolation == "read committed" else "40001")
    with pytest.raises(asyncpg.PostgresError, match="epoch 7 is over"):
        await write(older, 7, isolation)
    await has(observer, 8)
    await observer.close()


async def test_the_server_ends_a_primary_that_is_frozen_within_its_transaction(
    older: asyncpg.Connection, newer: asyncpg.Connection
) -> None:
    await older.execute("SET idle_in_transaction_session_timeout = '100ms'")
    await older.execute("BEGIN")
    await older.execute("SELECT muster_check('db', 7)")
    await older.execute("INSERT INTO entries (epoch) VALUES (7)")
    await asyncio.wait_for(write(newer, 8), 60)
    await has(newer, 8)


async def test_a_group_without_a_row_is_refused(newer: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.NoDataFoundError):
        await newer.execute("SELECT muster_check('cache', 7)")
