"""The servers that `--kafka local` and `--postgres local` start, for real: they keep what they were given."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.local import jars as kafka_jars
from infra.local.failure import LocalServerFailed, LocalServerUnavailable
from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from tests.servers import SharedKafka, SharedPostgres, create_database


@pytest.mark.kafka
async def test_kafka_keeps_its_records_across_a_kill(kafka_alone: LocalKafka) -> None:
    first_pid = kafka_alone.pid
    await _create_topic(kafka_alone.bootstrap, "kept")
    await _produce(kafka_alone.bootstrap, "kept", b"before the kill")

    kafka_alone.kill()
    assert kafka_alone.pid is None
    await kafka_alone.start()

    assert kafka_alone.pid != first_pid
    await _produce(kafka_alone.bootstrap, "kept", b"after it")
    assert await _consume(kafka_alone.bootstrap, "kept", 2) == [b"before the kill", b"after it"]


@pytest.mark.kafka
async def test_a_suspended_kafka_answers_nothing_until_it_is_resumed(kafka_alone: LocalKafka) -> None:
    await _create_topic(kafka_alone.bootstrap, "slow")
    kafka_alone.suspend()
    produced = asyncio.create_task(_produce(kafka_alone.bootstrap, "slow", b"late"))
    await asyncio.sleep(0.5)
    assert not produced.done()
    kafka_alone.resume()
    await produced


@pytest.mark.kafka
async def test_kafka_makes_no_topic_that_nobody_created(kafka: SharedKafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.describe_topics(["never-created"])
        assert "never-created" not in await admin.list_topics()
    finally:
        await admin.close()


@pytest.mark.kafka
async def test_kafka_that_cannot_start_says_what_its_log_says(kafka: SharedKafka, tmp_path: Path) -> None:
    broken = LocalKafka(tmp_path / "kafka", config={"log.retention.check.interval.ms": "soon"})
    with pytest.raises(LocalServerFailed, match=r"(?s)could not be formatted.*retention\.check\.interval"):
        await broken.start()


@pytest.mark.kafka
def test_a_jar_with_another_hash_is_refused_by_name(kafka: SharedKafka, tmp_path: Path) -> None:
    lines = kafka_jars.LOCK.read_text().splitlines(keepends=True)
    lock = tmp_path / "kafka_jars.lock"
    lock.write_text("".join("0" * 64 + line[64:] if "kafka_2.13" in line else line for line in lines))
    with pytest.raises(LocalServerFailed, match=r"kafka_2\.13-4\.1\.1\.jar is not the jar that was pinned"):
        kafka_jars.classpath(lock)


def test_the_lock_pins_what_jgo_would_choose_otherwise() -> None:
    pinned = {kafka_jars.Jar(*line.split()).coordinate for line in kafka_jars.LOCK.read_text().splitlines()}
    assert set(kafka_jars.ROOTS) <= pinned
    assert len({coordinate.rpartition(":")[0] for coordinate in pinned}) == len(pinned)


def test_jars_that_cannot_be_fetched_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    with pytest.raises(LocalServerUnavailable, match="pip install"):
        kafka_jars.classpath(repository=tmp_path)


@pytest.mark.postgres
async def test_postgres_keeps_its_rows_across_a_kill(postgres_alone: LocalPostgres) -> None:
    await _sql(postgres_alone.dsn, "CREATE TABLE kept (word text)")
    await _sql(postgres_alone.dsn, "INSERT INTO kept VALUES ('naïve ✓')")

    postgres_alone.kill()
    await postgres_alone.start()

    assert await _sql(postgres_alone.dsn, "SELECT word FROM kept") == ["naïve ✓"]
    assert await _sql(postgres_alone.dsn, "SHOW fsync") == ["on"]


@pytest.mark.postgres
async def test_a_second_server_on_the_same_folder_is_refused(postgres_alone: LocalPostgres, tmp_path: Path) -> None:
    with pytest.raises(LocalServerFailed, match=rf"in use by a server that runs \(pid {postgres_alone.pid}\)"):
        await LocalPostgres(tmp_path / "postgres").start()


@pytest.mark.postgres
async def test_postgres_that_cannot_start_says_what_its_log_says(postgres_alone: LocalPostgres, tmp_path: Path) -> None:
    await postgres_alone.stop()
    broken = LocalPostgres(tmp_path / "postgres", config={"shared_buffers": "much"})
    with pytest.raises(LocalServerFailed, match=r"(?s)ended before it was ready.*shared_buffers"):
        await broken.start()


@pytest.mark.postgres
@pytest.mark.parametrize("password", [None, "", "another"])
async def test_a_lost_password_is_told_at_once(
    postgres_alone: LocalPostgres, tmp_path: Path, password: str | None
) -> None:
    await postgres_alone.stop()
    (tmp_path / "postgres" / "password").unlink()
    if password is not None:
        (tmp_path / "postgres" / "password").write_text(password)
    with pytest.raises(LocalServerFailed, match="password"):
        await LocalPostgres(tmp_path / "postgres", startup_timeout_seconds=600).start()


@pytest.mark.parametrize("server", [LocalKafka, LocalPostgres])
async def test_a_folder_that_is_of_no_use_is_told(server: type[LocalKafka | LocalPostgres], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "locked" / "lock").mkdir(parents=True)
    for folder in (tmp_path / "file" / "x", tmp_path / "locked"):
        with pytest.raises(LocalServerFailed, match="cannot be used"):
            await server(folder).start()


@pytest.mark.postgres
async def test_every_test_can_have_a_database_of_its_own(postgres: SharedPostgres, database: str) -> None:
    other = await create_database(postgres)
    await _sql(database, "CREATE TABLE mine ()")
    assert await _sql(other, "SELECT to_regclass('mine')") == [None]


@pytest.mark.postgres
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_server_dies_with_the_process_that_started_it(postgres: SharedPostgres, tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, infra.local.postgres as m\n"
        f"server = m.LocalPostgres(pathlib.Path({str(tmp_path)!r}))\n"
        "asyncio.run(server.start()); print(server.pid, flush=True); input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        server = int(parent.stdout.readline())
        assert _lives(server)
        parent.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + 5
    while _lives(server):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def _sql(dsn: str, statement: str) -> list[object]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def _create_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def _produce(bootstrap: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def _consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()
