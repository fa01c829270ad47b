"""Real servers for tests: one Kafka and one PostgreSQL per test run, started on first use, shared by xdist's workers.

    kafka             .bootstrap; shared: take topic names of your own
    postgres          .dsn; shared: take a database of your own, by `database` or `create_database`
    database          a new, empty database's dsn
    kafka_alone       a started LocalKafka of this test's own, to kill and suspend
    postgres_alone    a started LocalPostgres of this test's own

Every test run loads this module, so it imports what servers need only when one is asked for: tests of the pure core
load no client of Kafka and none of PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from infra.local.kafka import LocalKafka
    from infra.local.postgres import LocalPostgres
    from tests.servers import SharedKafka, SharedPostgres


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SharedKafka:
    from tests.servers import shared_kafka

    return shared_kafka(request.config, tmp_path_factory)


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SharedPostgres:
    from tests.servers import shared_postgres

    return shared_postgres(request.config, tmp_path_factory)


@pytest.fixture
def database(postgres: SharedPostgres) -> Iterator[str]:
    from tests.servers import new_database

    with new_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def kafka_alone(tmp_path: Path) -> Iterator[LocalKafka]:
    from tests.servers import own_kafka

    with own_kafka(tmp_path / "kafka") as server:
        yield server


@pytest.fixture
def postgres_alone(tmp_path: Path) -> Iterator[LocalPostgres]:
    from tests.servers import own_postgres

    with own_postgres(tmp_path / "postgres") as server:
        yield server
