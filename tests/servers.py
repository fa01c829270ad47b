"""Real servers for tests, found or started: what the fixtures of `tests.fixtures` stand on.

Where the packages cannot be had the test is skipped and says why; with CI=true it fails.
"""

import asyncio
import fcntl
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from infra.local.failure import LocalServerUnavailable
from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres

T = TypeVar("T")


@dataclass(frozen=True)
class SharedKafka:
    """The run's broker; nobody may stop it."""

    bootstrap: str


@dataclass(frozen=True)
class SharedPostgres:
    """The run's PostgreSQL; nobody may stop it. `dsn` names the superuser and the database `postgres`."""

    dsn: str


def shared_kafka(config: pytest.Config, folders: pytest.TempPathFactory) -> SharedKafka:
    """The run's broker; the first test to ask starts it."""

    def start(data: Path) -> tuple[LocalKafka, str]:
        server = LocalKafka(data)
        run(server.start())
        return server, f"kafka://{server.bootstrap}"

    url = _shared(config, _folder(folders, "kafka"), start)
    return SharedKafka(url.removeprefix("kafka://"))


def shared_postgres(config: pytest.Config, folders: pytest.TempPathFactory) -> SharedPostgres:
    """The run's PostgreSQL; the first test to ask starts it."""

    def start(data: Path) -> tuple[LocalPostgres, str]:
        server = LocalPostgres(data)
        run(server.start())
        return server, server.dsn

    return SharedPostgres(_shared(config, _folder(folders, "postgres"), start))


@contextmanager
def new_database(postgres: SharedPostgres) -> Iterator[str]:
    """The dsn of an empty database, dropped at the end."""
    dsn = run(create_database(postgres))
    yield dsn
    run(_execute(postgres.dsn, f"DROP DATABASE {urlsplit(dsn).path[1:]} WITH (FORCE)"))


@contextmanager
def own_kafka(data: Path) -> Iterator[LocalKafka]:
    """A broker of one test, which may kill it."""
    server = LocalKafka(data)
    with _reported_if_unavailable():
        run(server.start())
    yield server
    run(server.stop())


@contextmanager
def own_postgres(data: Path) -> Iterator[LocalPostgres]:
    """A PostgreSQL of one test, which may kill it."""
    server = LocalPostgres(data)
    with _reported_if_unavailable():
        run(server.start())
    yield server
    run(server.stop())


async def create_database(postgres: SharedPostgres | LocalPostgres) -> str:
    """Create an empty database with a name of its own; its dsn."""
    name = f"test_{secrets.token_hex(6)}"
    await _execute(postgres.dsn, f"CREATE DATABASE {name}")
    return urlsplit(postgres.dsn)._replace(path=f"/{name}").geturl()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on a loop of its own, from a test that is not async; pytest-asyncio's loop is left alone."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(work)


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _shared(
    config: pytest.Config, folder: Path, start: Callable[[Path], tuple[LocalKafka | LocalPostgres, str]]
) -> str:
    """The url of the server in `folder`: the first worker to ask starts it, and stops it after the last has ended.

    Every worker holds `users` shared until its end, the starter waits for it exclusively; a worker that crashes lets
    go, too. If the starter crashes its server dies with it, and the next worker to ask starts another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    users, known = (folder / "users").open("w"), folder / "url"
    config.add_cleanup(users.close)
    with (folder / "starting").open("w") as starting, _reported_if_unavailable():
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        if known.exists() and _listens(known.read_text()):
            return known.read_text()
        server, url = start(folder / "data")
        known.write_text(url)

    def stop() -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        known.unlink()
        run(server.stop())
        shutil.rmtree(folder / "data", ignore_errors=True)

    config.add_cleanup(stop)  # not the fixture's end, which counts as a test's time: others may take long
    return url


def _folder(factory: pytest.TempPathFactory, name: str) -> Path:
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"


def _listens(url: str) -> bool:
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def _reported_if_unavailable() -> Iterator[None]:
    try:
        yield
    except LocalServerUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
