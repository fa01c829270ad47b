"""The log on Kafka when the broker hangs, dies, forgets, or loses bytes on its disk."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest, ProduceResponse_v7
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from infra.kafka.appends import Appends
from infra.kafka.fetches import Fetches
from infra.kafka.log import KafkaLog
from infra.kafka.provision import provision
from infra.kafka.topic import BATCH_BYTES_MAX
from infra.local.kafka import LocalKafka
from infra.log.ahead import Child, Source
from infra.log.port import START
from muster.wire.error import Corrupt, Fenced, NotReady, TooLarge, Transient, Uncertain
from tests.infra.log.log_contract import NOON, Writer, batches, end, history, names_of, reign, sealed_batch, tailing
from tests.servers import SharedKafka

pytestmark = pytest.mark.kafka
APPEND_TIMEOUT_SECONDS = 2.0


@pytest.fixture
async def broker(kafka_alone: LocalKafka) -> LocalKafka:
    """A broker of the test's own, with topics of one partition."""
    await provision(kafka_alone.bootstrap, partitions=1)
    return kafka_alone


@asynccontextmanager
async def opened(broker: LocalKafka | SharedKafka, **settings: Any) -> AsyncIterator[KafkaLog]:
    settings = {"append_timeout_seconds": APPEND_TIMEOUT_SECONDS, "stuck_seconds": 1.0, **settings}
    async with KafkaLog(broker.bootstrap, 0, **settings) as log:
        yield log


async def eventually(attempt: Callable[[], Awaitable[Writer]]) -> Writer:
    """Try again while the error is one that goes away."""
    while True:
        try:
            return await attempt()
        except Transient:
            await asyncio.sleep(0.05)


async def test_a_broker_that_hangs_makes_an_append_uncertain_and_the_log_decides(broker: LocalKafka) -> None:
    async with opened(broker) as log, opened(broker) as reader, tailing(reader, START) as tail:
        writer = await reign(log)
        await writer.append("before")
        broker.suspend()
        clock = asyncio.get_running_loop().time
        began = clock()

        with pytest.raises(Uncertain):
            await writer.append("during")

        assert clock() - began < 2 * APPEND_TIMEOUT_SECONDS
        with pytest.raises(Fenced):
            await writer.log.beat()
        with pytest.raises(NotReady):
            await log.claim("first", writer.cursor)
        with pytest.raises(NotReady):
            await batches(log)

        broker.resume()
        again = await eventually(lambda: reign(log, "first", writer.cursor))
        await again.append("after")

        found = [name for names in await history(log) for name in names]
        assert found in (["before", "during", "after"], ["before", "after"])
        assert [names_of(await anext(batch async for batch in tail if batch.records)) for _ in found] == [
            [name] for name in found
        ]


async def test_an_append_waits_no_longer_than_it_may_however_long_a_request_may_take(broker: LocalKafka) -> None:
    async with AsyncExitStack() as stack:
        appends = Appends(broker.bootstrap, timeout_seconds=3_600)
        stack.push_async_callback(appends.close)
        log = await stack.enter_async_context(opened(broker, appends=appends, append_timeout_seconds=0.5))
        writer = await reign(log)
        broker.suspend()
        async with asyncio.timeout(5):
            with pytest.raises(Uncertain, match="TimeoutError"):
                await writer.append("during")
        broker.resume()
        again = await eventually(lambda: reign(log, "first", writer.cursor))
        await again.append("after")


async def test_what_a_killed_broker_acknowledged_stays_and_a_deposed_writer_stays_refused(
    broker: LocalKafka,
) -> None:
    async with opened(broker) as old, opened(broker) as new, opened(broker) as reader:
        deposed = await reign(old, "old")
        await deposed.append("a")
        writer = await reign(new, "new", deposed.cursor)
        await writer.append("b")
        async with tailing(reader, START) as tail:
            broker.kill()
            with pytest.raises(Uncertain):
                await writer.append("c")
            await broker.start()

            with pytest.raises((Fenced, Uncertain)):
                await deposed.append("late")
            again = await eventually(lambda: reign(new, "new", writer.cursor))
            with pytest.raises(Fenced):
                await deposed.log.beat()
            await again.append("d")

            found = [name for names in await history(new) for name in names]
            assert found in (["a", "b", "c", "d"], ["a", "b", "d"])
            assert [names_of(await anext(batch async for batch in tail if batch.records)) for _ in found] == [
                [name] for name in found
            ]


async def test_a_byte_flipped_on_the_brokers_disk_is_corrupt_at_its_batch(broker: LocalKafka, tmp_path: Path) -> None:
    async with opened(broker) as log:
        writer = await reign(log)
        await writer.append("whole")
        await writer.append("damaged")
        await writer.append("behind")
        await broker.stop()
        [segment] = (tmp_path / "kafka" / "log" / "muster.events-0").glob("*.log")
        content = segment.read_bytes()
        segment.write_bytes(content.replace(b"damaged-command", b"damagee-command"))
        await broker.start()

        found: list[list[str]] = []
        with pytest.raises(Corrupt) as stopped:
            found.extend([names_of(batch) async for batch in log.read(START)])
        assert stopped.value.context["position"] == 2


async def test_an_old_writer_is_refused_when_the_broker_has_forgotten_its_fence(tmp_path: Path) -> None:
    forgetful = {
        "transactional.id.expiration.ms": "500",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "100",
        "producer.id.expiration.ms": "500",
        "producer.id.expiration.check.interval.ms": "100",
    }
    async with LocalKafka(tmp_path / "kafka", config=forgetful) as broker:
        await provision(broker.bootstrap, partitions=1)
        async with opened(broker) as old, opened(broker) as new:
            idle_seconds, forgotten = 0.5, False
            while not forgotten:
                deposed = await reign(old, "old", await end(old))
                await asyncio.sleep(idle_seconds)  # the broker's memory is what is waited for; it shows only below
                writer = await reign(new, "new", deposed.cursor)
                await asyncio.sleep(idle_seconds)
                with pytest.raises((Fenced, Uncertain)) as refused:
                    await deposed.log.beat()
                forgotten = refused.type is Uncertain
                idle_seconds *= 2
                assert (await end(new)).term == writer.cursor.term
            with pytest.raises((Fenced, Uncertain)):
                await deposed.append("late")
            assert await history(new) == []


async def test_the_broker_refuses_an_old_writer_by_its_epoch(kafka: SharedKafka) -> None:
    prefix = "by-epoch"
    await provision(kafka.bootstrap, prefix=prefix, partitions=1)
    async with opened(kafka, prefix=prefix) as old, opened(kafka, prefix=prefix) as new:
        deposed = await reign(old, "old", await end(old))
        await reign(new, "new", deposed.cursor)

        with pytest.raises(Fenced) as refused:
            await deposed.append("late")

        assert isinstance(refused.value.__cause__, ProducerFenced | InvalidProducerEpoch)


def test_aiokafka_still_has_the_parts_that_appends_and_fetches_are_made_of() -> None:
    """They are public modules but undocumented; the minor version is pinned, and here it shows when they change."""

    def takes(function: Callable[..., Any]) -> list[str]:
        return [name for name in inspect.signature(function).parameters if name != "self"]

    assert takes(ProduceRequest.__init__) == ["transactional_id", "required_acks", "timeout", "topics"]
    partitions = ProduceResponse_v7.SCHEMA.fields[0].array_of.fields[1].array_of
    assert partitions.names[:3] == ("partition", "error_code", "offset")
    assert takes(FetchRequest.__init__)[:5] == ["max_wait_time", "min_bytes", "max_bytes", "isolation_level", "topics"]
    assert takes(OffsetRequest.__init__) == ["replica_id", "isolation_level", "topics"]
    assert {"base_offset", "next_offset", "is_control_batch", "validate_crc"} < set(dir(DefaultRecordBatch))
    assert {"has_next", "next_batch"} < set(dir(MemoryRecords))
    assert takes(InitProducerIdRequest.__init__) == ["transactional_id", "transaction_timeout_ms"]
    assert takes(AIOKafkaClient.send) == ["node_id", "request", "group"]
    assert takes(AIOKafkaClient.coordinator_lookup) == ["coordinator_type", "coordinator_key"]
    assert takes(AIOKafkaClient.add_topic) == ["topic"]


async def test_appends_of_one_turn_travel_together_and_land_each_in_its_place(kafka: SharedKafka) -> None:
    prefix = "together"
    await provision(kafka.bootstrap, prefix=prefix, partitions=4)
    async with AsyncExitStack() as stack:
        appends = Appends(kafka.bootstrap)
        stack.push_async_callback(appends.close)
        logs = [KafkaLog(kafka.bootstrap, number, prefix=prefix, appends=appends) for number in range(4)]
        writers = [await reign(await stack.enter_async_context(log), after=await end(log)) for log in logs]
        for turn in range(20):
            await asyncio.gather(*(writer.append(str(turn)) for writer in writers))
        for log in logs:
            assert await history(log) == [[str(turn)] for turn in range(20)]


async def test_a_fenced_partition_does_not_disturb_those_that_travel_with_it(kafka: SharedKafka) -> None:
    prefix = "beside"
    await provision(kafka.bootstrap, prefix=prefix, partitions=2)
    async with AsyncExitStack() as stack:
        appends = Appends(kafka.bootstrap)
        stack.push_async_callback(appends.close)
        logs = [KafkaLog(kafka.bootstrap, number, prefix=prefix, appends=appends) for number in range(2)]
        first, second = [await reign(await stack.enter_async_context(log), after=await end(log)) for log in logs]
        async with opened(kafka, prefix=prefix) as rival:
            await reign(rival, "rival", first.cursor)
            fenced, landed = await asyncio.gather(first.append("late"), second.append("fine"), return_exceptions=True)
        assert isinstance(fenced, Fenced)
        assert landed is None
        assert await history(logs[1]) == [["fine"]]


@asynccontextmanager
async def behind_a_silent_broker(
    kafka: LocalKafka, appends: Appends
) -> AsyncIterator[tuple[Writer, Writer, asyncio.Future[None], asyncio.Future[None]]]:
    """Two partitions' writers and their appends: the first is sent, to no answer; the second waits for that. Then the broker
    wakes up.
    """
    await provision(kafka.bootstrap, prefix="silent", partitions=2)
    logs = [KafkaLog(kafka.bootstrap, number, prefix="silent", appends=appends) for number in range(2)]
    first, second = [await reign(log) for log in logs]
    kafka.suspend()
    sent = asyncio.ensure_future(first.append("sent"))
    await asyncio.sleep(0.1)
    waiting = asyncio.ensure_future(second.append("waiting"))
    await asyncio.sleep(0.1)
    yield first, second, sent, waiting
    kafka.resume()


async def test_what_waits_and_was_given_up_is_not_sent(kafka_alone: LocalKafka) -> None:
    async with AsyncExitStack() as stack:
        appends = Appends(kafka_alone.bootstrap)
        stack.push_async_callback(appends.close)
        async with behind_a_silent_broker(kafka_alone, appends) as (first, second, sent, waiting):
            waiting.cancel()
            await asyncio.wait({waiting})
        await sent
        await first.append("more")
        assert await history(first.log) == [["sent"], ["more"]]
        assert await history(second.log) == []


async def test_closing_tells_whoever_waits(kafka_alone: LocalKafka) -> None:
    appends = Appends(kafka_alone.bootstrap)
    async with behind_a_silent_broker(kafka_alone, appends) as (_, _, sent, waiting):
        async with asyncio.timeout(1):
            await appends.close()
            told = await asyncio.gather(sent, waiting, return_exceptions=True)
        assert [type(error) for error in told] == [Uncertain, Uncertain]


async def test_a_batch_that_is_too_large_is_refused_and_the_reign_goes_on(kafka: SharedKafka) -> None:
    prefix = "too-large"
    await provision(kafka.bootstrap, prefix=prefix, partitions=1)
    async with opened(kafka, prefix=prefix) as log:
        writer = await reign(log, after=await end(log))
        huge, _ = sealed_batch(writer.cursor, [str(number) for number in range(BATCH_BYTES_MAX // 400)])

        with pytest.raises(TooLarge):
            await log.append(huge)

        await writer.append("small")
        assert await history(log) == [["small"]]


async def test_a_cancelled_append_ends_the_reign(kafka: SharedKafka) -> None:
    prefix = "cancelled"
    await provision(kafka.bootstrap, prefix=prefix, partitions=1)
    async with opened(kafka, prefix=prefix) as log:
        writer = await reign(log, after=await end(log))
        append = asyncio.ensure_future(writer.append("perhaps"))
        await asyncio.sleep(0)
        append.cancel()
        await asyncio.wait({append})

        assert append.cancelled()
        with pytest.raises(Fenced):
            await log.beat()
        again = await reign(log, after=writer.cursor)
        await again.append("then")
        assert [name for names in await history(log) for name in names] in (["perhaps", "then"], ["then"])


async def test_without_a_broker_nothing_is_claimed_or_read() -> None:
    async with KafkaLog("127.0.0.1:1", 0, append_timeout_seconds=0.5) as log:
        with pytest.raises(NotReady):
            await log.claim("first", START)
        with pytest.raises(NotReady):
            await batches(log)


async def test_a_partition_that_is_not_there_is_said_so(kafka: SharedKafka) -> None:
    prefix = "one-partition"
    await provision(kafka.bootstrap, prefix=prefix, partitions=1)
    async with KafkaLog(kafka.bootstrap, 1, prefix=prefix, append_timeout_seconds=2, stuck_seconds=1) as log:
        with pytest.raises(NotReady, match="has no partition 1"):
            await log.claim("first", START)


async def test_a_claimer_that_was_overtaken_deposes_the_other_ones_beats_too(kafka: SharedKafka) -> None:
    prefix = "overtaken"
    await provision(kafka.bootstrap, prefix=prefix, partitions=1)
    elsewhere = ThreadPoolExecutor(max_workers=1)
    loop = asyncio.Runner()

    def other_process(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        elsewhere.submit(lambda: loop.run(work())).result(timeout=20)

    async def claims() -> None:
        nonlocal rival
        rival = KafkaLog(kafka.bootstrap, 0, prefix=prefix, fence=False)
        await rival.claim("rival", await end(rival))

    async def beats() -> None:
        assert rival is not None
        async with rival:
            await rival.beat()

    def clock() -> datetime:
        # Read between the claimer's beat and its start: the whole claim of the rival fits in.
        if rival is None:
            other_process(claims)
        return NOON

    rival: KafkaLog | None = None
    try:
        async with opened(kafka, prefix=prefix, fence=False, clock=clock) as log:
            writer = await reign(log, "overtaken", await end(log))

            assert writer.cursor.term == 2
            with pytest.raises(Uncertain):
                await asyncio.to_thread(other_process, beats)
            await writer.append("a")
    finally:
        elsewhere.submit(loop.close).result()
        elsewhere.shutdown()


async def test_a_transactions_marker_is_corrupt_even_where_nothing_follows(kafka: SharedKafka) -> None:
    prefix = "marked"
    await provision(kafka.bootstrap, prefix=prefix, partitions=1)
    async with opened(kafka, prefix=prefix) as log:
        writer = await reign(log, after=await end(log))
        stranger = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id="stranger")
        async with stranger, stranger.transaction():
            await stranger.send_and_wait(f"{prefix}.events", b"void", partition=0)

        async def read_again_and_again() -> None:
            while True:  # The broker writes the marker a little after it says that the transaction is over.
                await batches(log)

        with pytest.raises(Corrupt, match="is missing") as stopped:
            await asyncio.wait_for(read_again_and_again(), 5)
        assert stopped.value.context["position"] == writer.cursor.position + 2


async def a_long_log(broker: LocalKafka) -> tuple[Source, int]:
    """Where another process reads it, in fetches of a batch each, and its last position."""
    async with opened(broker) as log:
        writer = await reign(log)
        for number in range(20):
            await writer.append(*(f"{number}-{index}" for index in range(1_000)))
    return ("kafka", broker.bootstrap, "muster.events", 0, 64, 1.0), writer.cursor.position


async def test_the_next_fetch_is_on_its_way_while_the_last_one_is_taken_in(broker: LocalKafka) -> None:
    await a_long_log(broker)
    fetches = Fetches(
        broker.bootstrap,
        TopicPartition("muster.events", 0),
        bytes_max=64,
        wait_seconds=0.5,
        silent_seconds=1.0,
        client_options={},
    )
    await fetches.start()
    async with aclosing(fetches.run(0, 2_000)) as coming:
        first = await anext(coming)
        await asyncio.sleep(0.5)
        broker.suspend()
        second = await anext(coming)
        broker.resume()
    await fetches.close()
    assert second.batches[0].base_offset == first.next


async def test_a_broker_that_goes_away_is_told_by_the_process_that_reads_ahead(broker: LocalKafka) -> None:
    source, last = await a_long_log(broker)
    async with Child() as child, aclosing(child.read(source, START, last)) as batches:
        assert (await anext(batches)).cursor.position < last
        broker.kill()
        with pytest.raises(NotReady, match="on Kafka at"):
            [batch async for batch in batches]


async def test_a_process_that_reads_ahead_may_wait_for_longer_than_a_broker_may_be_silent(broker: LocalKafka) -> None:
    source, last = await a_long_log(broker)
    async with Child() as child, aclosing(child.read(source, START, last)) as batches:
        assert (await anext(batches)).cursor.position < last
        time.sleep(3)  # noqa: ASYNC251 — nothing is taken meanwhile, so that it waits within a write
        assert [batch async for batch in batches][-1].cursor.position == last
