"""A PostgreSQL database examined: version, settings, encoding, privileges and round trips."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from workers.doctor.finding import ROUNDS, TIMEOUT_SECONDS, Finding, median_ms, reason

POSTGRES_VERSION_MIN: Final = 14


async def examine_postgres(dsn: str) -> list[Finding]:
    """The findings about the database of this DSN."""
    try:
        connection = await asyncpg.connect(dsn, timeout=TIMEOUT_SECONDS / 3)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [Finding("fault", "postgres", f"cannot connect: {reason(error)}", "start it, or mend the DSN")]
    try:
        return [_version(connection.get_server_version().major), *await _database(connection)]
    except asyncpg.PostgresError as error:
        return [Finding("fault", "postgres", f"cannot be examined: {reason(error)}", "grant this user what it says")]
    finally:
        await connection.close()


def _version(major: int) -> Finding:
    if major >= POSTGRES_VERSION_MIN:
        return Finding("ok", "postgres version", str(major))
    return Finding("fault", "postgres version", str(major), f"PostgreSQL {POSTGRES_VERSION_MIN} or newer")


async def _database(connection: Any) -> list[Finding]:
    return [
        await _setting(connection, "fsync", "a power failure may damage the database"),
        await _setting(connection, "full_page_writes", "a power failure may damage the database"),
        # Lost rows are no loss: the projector's position is committed with them, so it reads the same events again.
        await _setting(
            connection, "synchronous_commit", "a crash may lose the newest rows; the projector brings them again"
        ),
        _encoding(await connection.fetchval("SHOW server_encoding")),
        _privileges(await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')")),
        await _round_trips(connection),
    ]


async def _setting(connection: Any, name: str, danger: str) -> Finding:
    value = await connection.fetchval("SELECT current_setting($1)", name)
    if value == "off":
        return Finding("warning", f"postgres {name}", f"off: {danger}", "on")
    return Finding("ok", f"postgres {name}", value)


def _encoding(encoding: str) -> Finding:
    if encoding == "UTF8":
        return Finding("ok", "postgres encoding", encoding)
    return Finding("fault", "postgres encoding", encoding, "create the database with ENCODING 'UTF8'")


def _privileges(may_create: bool) -> Finding:
    if may_create:
        return Finding("ok", "postgres privileges", "may create the schema")
    return Finding("fault", "postgres privileges", "may not create a schema", "GRANT CREATE ON DATABASE … TO …")


async def _round_trips(connection: Any) -> Finding:
    query = await _timed(lambda: connection.fetchval("SELECT 1"))
    # A message in the write-ahead log makes a real commit, and leaves nothing in any table.
    commit = await _timed(lambda: connection.execute("SELECT pg_logical_emit_message(true, 'muster', '')"))
    return Finding("ok", "postgres round trip", f"query {query:.1f} ms, transaction {commit:.1f} ms")


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    """The median length of `ROUNDS` runs, in milliseconds."""
    lengths = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        await work()
        lengths.append(time.perf_counter() - started)
    return median_ms(lengths)
