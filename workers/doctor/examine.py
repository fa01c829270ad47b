"""The doctor: looks at a broker and a database for what muster needs, and says what to change.

Nothing of muster's own is touched: what must be tried is tried on topics of its own, which are deleted again. The fence
is really tested: a writer claims a partition, another one claims it too, and the first one's append must be refused.
"""

import asyncio
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from domain.message import Recorded
from domain.registry.instance import InstanceDrainStarted
from infra.kafka.log import KafkaLog
from infra.kafka.provision import provision
from infra.kafka.topic import PARTITIONS, PREFIX, TOPICS, topic_name
from infra.log.codec import CloudEventMapper, Draft
from infra.log.port import START, Cursor
from muster.wire.error import Fenced, MusterError, NotReady, Uncertain

Verdict = Literal["ok", "warning", "fault"]

ROUNDS: Final = 20
TIMEOUT_SECONDS: Final = 30.0
SLOW_MILLISECONDS: Final = 20.0
KAFKA_VERSION_MIN: Final = 3
POSTGRES_VERSION_MIN: Final = 14
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. A `fault` keeps muster from running rightly; `remedy` says what to do."""

    verdict: Verdict
    subject: str
    found: str
    remedy: str = ""


async def examine(
    kafka: str | None, postgres: str | None, *, partitions: int | None = None, prefix: str = PREFIX
) -> list[Finding]:
    """All findings, in the order in which they were looked at. A server that does not answer is a fault, not an error."""
    findings: list[Finding] = []
    if kafka is not None:
        findings += await _kafka(kafka, partitions or PARTITIONS, prefix)
    if postgres is not None:
        findings += await _postgres(postgres)
    return findings


async def _kafka(bootstrap: str, partitions: int, prefix: str) -> list[Finding]:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), _admin(bootstrap) as admin:
            brokers = sorted(node["node_id"] for node in (await admin.describe_cluster())["brokers"])
            settings = await _broker_settings(admin, brokers[0])
    except (KafkaError, OSError, TimeoutError) as error:
        return [
            Finding("fault", "kafka", f"{bootstrap} does not answer: {_said(error)}", "start it, or mend the address")
        ]
    findings = [_protocol(settings), _brokers(brokers, settings), *_broker_findings(settings, len(brokers))]
    findings += await _topics(bootstrap, partitions, prefix)
    return findings + await _tried(bootstrap)


def _protocol(settings: Mapping[str, str]) -> Finding:
    version = settings.get("inter.broker.protocol.version")
    if version is None:  # a setting that ended with version 4
        return Finding("ok", "kafka version", "4 or newer")
    if int(version.partition(".")[0]) >= KAFKA_VERSION_MIN:
        return Finding("ok", "kafka version", version)
    return Finding("warning", "kafka version", version, f"Apache Kafka {KAFKA_VERSION_MIN} or newer")


def _brokers(brokers: list[int], settings: Mapping[str, str]) -> Finding:
    if len(brokers) >= 3:
        return Finding("ok", "kafka brokers", str(len(brokers)))
    if settings.get("log.flush.interval.messages") == "1":
        return Finding("ok", "kafka brokers", f"{len(brokers)}, each record flushed to disk (slow)")
    return Finding(
        "warning",
        "kafka brokers",
        f"{len(brokers)}: an acknowledged record survives a killed process, but not a power failure",
        "run three brokers with min.insync.replicas=2; or log.flush.interval.messages=1, which is slow",
    )


def _broker_findings(settings: Mapping[str, str], brokers: int) -> list[Finding]:
    findings = []
    for name, least in (("transactional.id.expiration.ms", DAY_MS), ("producer.id.expiration.ms", DAY_MS // 2)):
        value = settings.get(name)
        if value is not None and int(value) < least:
            told = f"{value}: the broker forgets its fence soon; the log's own rule still holds"
            findings.append(Finding("warning", f"kafka {name}", told, f"at least {least}"))
    state = settings.get("transaction.state.log.replication.factor")
    if brokers >= 3 and state is not None and int(state) < 3:
        told = f"{state}: the fence is lost with one broker"
        findings.append(Finding("warning", "kafka transaction.state.log.replication.factor", told, "3"))
    if settings.get("auto.create.topics.enable") == "true":
        told = "true: a client that misspells a topic creates it"
        findings.append(Finding("warning", "kafka auto.create.topics.enable", told, "false"))
    return findings


async def _topics(bootstrap: str, partitions: int, prefix: str) -> list[Finding]:
    """Whether muster's topics are as it wants them; none at all is fine, it creates them."""
    async with _admin(bootstrap) as admin:
        present = set(await admin.list_topics())
    names = {topic_name(topic.name, prefix) for topic in TOPICS}
    if not names & present:
        return [Finding("ok", f"topics {prefix}.*", "not there yet; muster creates them when it starts")]
    try:
        warnings = await provision(bootstrap, partitions=partitions, prefix=prefix, create=False)
    except NotReady as error:
        return [Finding("fault", f"topics {prefix}.*", error.detail, "as it says")]
    if not warnings:
        return [Finding("ok", f"topics {prefix}.*", f"as they should be, {partitions} partitions each")]
    return [
        Finding("warning", f"{told.topic} {told.setting}", f"{told.found}, not {told.wanted}", told.remedy)
        for told in warnings
    ]


async def _tried(bootstrap: str) -> list[Finding]:
    """The fence and the round trips, on topics that are deleted again."""
    prefix = f"muster-doctor-{secrets.token_hex(4)}"
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await provision(bootstrap, partitions=1, prefix=prefix)
            return [await _round_trips(bootstrap, prefix), await _fence(bootstrap, prefix)]
    except (MusterError, KafkaError, OSError, TimeoutError) as error:
        remedy = "allow this user to create topics and to use transactional ids"
        return [Finding("fault", "kafka trial", f"a trial on topics {prefix}.* failed: {_said(error)}", remedy)]
    finally:
        await _delete(bootstrap, prefix)


async def _fence(bootstrap: str, prefix: str) -> Finding:
    async with KafkaLog(bootstrap, 0, prefix=prefix) as old, KafkaLog(bootstrap, 0, prefix=prefix) as new:
        old_cursor = await old.claim("doctor-old", START)
        await new.claim("doctor-new", START)
        try:
            await old.append(_batch(old_cursor)[0])
        except Fenced:
            return Finding("ok", "kafka fence", "an old writer is refused by the broker")
        except Uncertain:
            pass
    return Finding(
        "warning",
        "kafka fence",
        "the broker took an old writer's record; the log's own rule voided it, but only after the fact",
        "use Apache Kafka 3 or newer, which checks producer epochs of all batches",
    )


async def _round_trips(bootstrap: str, prefix: str) -> Finding:
    """From an append to its acknowledgement, and to a reader that tails the log; medians."""
    appended: list[float] = []
    read: list[float] = []
    async with KafkaLog(bootstrap, 0, prefix=prefix) as log:
        cursor = await log.claim("doctor", START)
        async with aclosing(cast(Any, log.tail(cursor))) as tail:
            for _ in range(ROUNDS):
                records, cursor = _batch(cursor)
                started = time.perf_counter()
                seen = asyncio.ensure_future(anext(tail))
                await log.append(records)
                appended.append(time.perf_counter() - started)
                await seen
                read.append(time.perf_counter() - started)
    told = f"append {_median_ms(appended):.1f} ms, append to reader {_median_ms(read):.1f} ms"
    if _median_ms(appended) <= SLOW_MILLISECONDS:
        return Finding("ok", "kafka round trip", told)
    return Finding("warning", "kafka round trip", told, "bring controller and brokers closer; writes wait for this")


def _batch(cursor: Cursor) -> tuple[Any, Cursor]:
    event = InstanceDrainStarted(instance="doctor")
    position = cursor.position + 1
    recorded = Recorded(
        0,
        position,
        "service/doctor",
        position,
        datetime.now(UTC),
        event,
        f"doctor-{position}",
        "doctor",
        None,
        "doctor",
        None,
    )
    return CloudEventMapper().seal([Draft(recorded, None, event.model_dump_json().encode())], cursor, None)


async def _delete(bootstrap: str, prefix: str) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), _admin(bootstrap) as admin:
            await admin.delete_topics([topic_name(topic.name, prefix) for topic in TOPICS])
    except (KafkaError, OSError, TimeoutError):
        pass  # a broker that is away has been told of already


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def _broker_settings(admin: AIOKafkaAdminClient, broker: int) -> dict[str, str]:
    resource = ConfigResource(ConfigResourceType.BROKER, str(broker))
    return {
        entry[0]: str(entry[1])
        for response in await admin.describe_configs([resource])
        for *_, entries in response.resources
        for entry in entries
        if entry[1] is not None
    }


async def _postgres(dsn: str) -> list[Finding]:
    try:
        connection = await asyncpg.connect(dsn, timeout=TIMEOUT_SECONDS / 3)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [Finding("fault", "postgres", f"cannot connect: {_said(error)}", "start it, or mend the DSN")]
    try:
        return [_version(connection.get_server_version().major), *await _database(connection)]
    except asyncpg.PostgresError as error:
        return [Finding("fault", "postgres", f"cannot be examined: {_said(error)}", "grant this user what it says")]
    finally:
        await connection.close()


def _version(major: int) -> Finding:
    if major >= POSTGRES_VERSION_MIN:
        return Finding("ok", "postgres version", str(major))
    return Finding("fault", "postgres version", str(major), f"PostgreSQL {POSTGRES_VERSION_MIN} or newer")


async def _database(connection: Any) -> list[Finding]:
    findings = []
    for name, why in (
        ("fsync", "a power failure may damage the database"),
        ("full_page_writes", "a power failure may damage the database"),
        ("synchronous_commit", "a crash may lose the newest rows; the projector brings them again"),
    ):
        value = await connection.fetchval("SELECT current_setting($1)", name)
        fine = value not in ("off",)
        verdict: Verdict = "ok" if fine else "warning"
        findings.append(Finding(verdict, f"postgres {name}", value if fine else f"off: {why}", "" if fine else "on"))
    encoding = await connection.fetchval("SHOW server_encoding")
    findings.append(Finding("ok", "postgres encoding", encoding) if encoding == "UTF8" else _wrong_encoding(encoding))
    allowed = await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')")
    findings.append(
        Finding("ok", "postgres privileges", "may create the schema")
        if allowed
        else Finding("fault", "postgres privileges", "may not create a schema", "GRANT CREATE ON DATABASE … TO …")
    )
    query = await _timed(lambda: connection.fetchval("SELECT 1"))
    commit = await _timed(lambda: connection.execute("SELECT pg_logical_emit_message(true, 'muster', '')"))
    findings.append(Finding("ok", "postgres round trip", f"query {query:.1f} ms, transaction {commit:.1f} ms"))
    return findings


def _wrong_encoding(encoding: str) -> Finding:
    return Finding("fault", "postgres encoding", encoding, "create the database with ENCODING 'UTF8'")


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    lengths = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        await work()
        lengths.append(time.perf_counter() - started)
    return _median_ms(lengths)


def _median_ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
