"""The log's promises on each engine: memory, SQLite, and Kafka with the broker's fence and without it."""

import secrets
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, closing
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from eventsourcing.persistence import StoredEvent
from eventsourcing.popo import POPOApplicationRecorder

from infra.kafka.log import KafkaLog
from infra.kafka.topic import EVENTS, LIVENESS, TOPICS, topic_name
from infra.log import ahead as reading_ahead
from infra.log.ahead import Child, Read, ReadAhead, Source
from infra.log.decoded import DecodedRecords
from infra.log.port import Batch, Cursor, EventLog
from infra.log.recorder import RecorderLog
from infra.sqlite.log import LogRecorder, SqliteLog
from tests.infra.log.log_contract import Engine, LogContract, RawRecord
from tests.servers import SharedKafka, run

ORIGINATOR = "muster.events/0"
KAFKA_PARTITIONS = 180


class InMemory:
    def __init__(self) -> None:
        self.recorder = POPOApplicationRecorder()

    def log(self, *, small_fetches: bool = False) -> EventLog:
        return RecorderLog(self.recorder, 0, poll_seconds=0.001, read_records_max=2 if small_fetches else 5_000)

    async def records(self) -> list[RawRecord]:
        return [(None, event.state) for event in self.recorder.select_events(ORIGINATOR)]

    async def put(self, key: bytes, value: bytes) -> None:
        count = len(self.recorder.select_events(ORIGINATOR))
        self.recorder.insert_events([StoredEvent(ORIGINATOR, count, "raw", value)])

    async def damaged(self, position: int, record: RawRecord | None) -> EventLog:
        other = InMemory()
        stored = list(self.recorder.select_events(ORIGINATOR))
        stored[position : position + 1] = [] if record is None else [StoredEvent(ORIGINATOR, position, "", record[1])]
        other.recorder.insert_events(stored)
        return other.log()


class OnSQLite:
    def __init__(self, folder: Path) -> None:
        self.file, self.copy = folder / "log.db", folder / "copy.db"
        self.copied = LogRecorder(self.copy)
        self.recorder = LogRecorder(self.file)
        self.recorder.create_table()

    def log(self, *, small_fetches: bool = False) -> EventLog:
        recorder = LogRecorder(self.file)
        return SqliteLog(recorder, 0, poll_seconds=0.001, read_records_max=2 if small_fetches else 5_000)

    async def records(self) -> list[RawRecord]:
        return [(None, event.state) for event in self.recorder.select_events(ORIGINATOR)]

    async def put(self, key: bytes, value: bytes) -> None:
        count = len(self.recorder.select_events(ORIGINATOR))
        self.recorder.insert_events([StoredEvent(ORIGINATOR, count, "raw", value)])

    async def damaged(self, position: int, record: RawRecord | None) -> EventLog:
        with closing(sqlite3.connect(self.file)) as source, closing(sqlite3.connect(self.copy)) as target:
            target.execute("PRAGMA synchronous = OFF")  # many copies, none worth a sync
            source.backup(target)
            if record is None:
                target.execute("DELETE FROM stored_events WHERE originator_version = ?", (position,))
            else:
                target.execute("UPDATE stored_events SET state = ? WHERE originator_version = ?", (record[1], position))
            target.commit()
        return SqliteLog(self.copied, 0)


class OnKafka:
    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        partitions: Iterator[int],
        *,
        fence: bool,
        ahead: ReadAhead | None = None,
    ) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.topic = topic_name(EVENTS, prefix)
        self.partitions = partitions
        self.partition = next(partitions)
        self.fence = fence
        self.ahead = ahead
        self.opened: list[KafkaLog] = []

    def log(self, *, small_fetches: bool = False) -> KafkaLog:
        return self._log(self.partition, fetch_bytes_max=64 if small_fetches else 1024 * 1024)

    async def records(self) -> list[RawRecord]:
        return await stored_on_kafka(self.bootstrap, self.topic, self.partition)

    async def put(self, key: bytes, value: bytes) -> None:
        await self._publish(self.partition, [(key or None, value)])

    async def damaged(self, position: int, record: RawRecord | None) -> KafkaLog:
        records = await self.records()
        records[position : position + 1] = [] if record is None else [record]
        partition = next(self.partitions)
        await self._publish(partition, records)
        return self._log(partition)

    async def close(self) -> None:
        async with AsyncExitStack() as stack:
            for log in self.opened:
                await stack.enter_async_context(log)

    def _log(self, partition: int, fetch_bytes_max: int = 1024 * 1024) -> KafkaLog:
        log = KafkaLog(
            self.bootstrap,
            partition,
            prefix=self.prefix,
            fence=self.fence,
            ahead=self.ahead,
            fetch_bytes_max=fetch_bytes_max,
        )
        self.opened.append(log)
        return log

    async def _publish(self, partition: int, records: Sequence[RawRecord]) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all") as producer:
            for key, value in records:
                await producer.send_and_wait(self.topic, value, key, partition)


async def stored_on_kafka(bootstrap: str, topic: str, partition: int) -> list[RawRecord]:
    here, records = TopicPartition(topic, partition), list[RawRecord]()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="none")
    consumer.assign([here])
    async with consumer:
        end = (await consumer.end_offsets([here]))[here]
        consumer.seek(here, 0)
        while len(records) < end:
            fetched = await consumer.getmany(here, timeout_ms=1_000)
            records.extend((record.key or b"", record.value or b"") for record in fetched.get(here, ()))
    return records


class TestInMemory(LogContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return InMemory()


class TestOnSQLite(LogContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Engine:
        return OnSQLite(tmp_path)


@pytest.fixture(scope="module")
def cluster(kafka: SharedKafka) -> tuple[str, str, Iterator[int]]:
    """Topics of this module: where, their prefix, and partitions that nobody has used."""
    prefix = f"contract-{secrets.token_hex(4)}"
    run(create_topics(kafka.bootstrap, prefix))
    return kafka.bootstrap, prefix, iter(range(KAFKA_PARTITIONS))


async def create_topics(bootstrap: str, prefix: str) -> None:
    """The two topics of the log; the others would only cost time at this number of partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics(
        [
            NewTopic(topic_name(topic.name, prefix), KAFKA_PARTITIONS, 1, topic_configs=dict(topic.settings))
            for topic in TOPICS
            if topic.name in (EVENTS, LIVENESS)
        ]
    )
    await admin.close()


@pytest.mark.kafka
class TestOnKafka(LogContract):
    fence = True

    @pytest.fixture
    async def engine(self, cluster: tuple[str, str, Iterator[int]]) -> AsyncIterator[Engine]:
        engine = OnKafka(*cluster, fence=self.fence)
        yield engine
        await engine.close()

    def flips_to_store(self, length: int) -> Sequence[int]:
        """The first, the last and one in the middle; any byte at all is tried on the records as they were read."""
        return (0, length // 2, length - 1)


class TestOnKafkaWithoutFence(TestOnKafka):
    fence = False


class AllAhead(ReadAhead):
    """Lets a child read everything from the first record on, and keeps it until `close`."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = 1

    async def _both(self, source: Source, here: Read, after: Cursor, last: int) -> AsyncGenerator[Batch, None]:
        self._child = self._child or await Child().start()
        async with aclosing(self._child.read(source, after, last)) as batches:
            async for batch in batches:
                assert isinstance(batch.records, DecodedRecords)
                yield batch

    async def close(self) -> None:
        """End the child."""
        await self._end()


class TestOnKafkaReadByAnotherProcess(TestOnKafka):
    @pytest.fixture
    async def engine(
        self, cluster: tuple[str, str, Iterator[int]], monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Engine]:
        monkeypatch.setattr(reading_ahead, "records_min", 0)
        ahead = AllAhead()
        engine = OnKafka(*cluster, fence=self.fence, ahead=ahead)
        yield engine
        await engine.close()
        await ahead.close()
