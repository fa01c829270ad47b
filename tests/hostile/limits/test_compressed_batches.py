"""Batches of commands that are small on the wire and huge once they are inflated, on a real broker."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from muster import Client
from muster.wire.route import partition_of
from tests.hostile.limits.attacked import memory_bytes_max
from tests.hostile.test_one_history import PARTITIONS, Outside, command
from tests.processes.process_on_kafka import KafkaController, controllers
from tests.servers import SharedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(180)]
RECORDS, RECORD_BYTES = 220, 512 << 10
"""110 MiB."""
HERE = partition_of("service/orders", PARTITIONS)


async def publish(
    kafka: SharedKafka, topic: str, codec: Literal["gzip", "zstd", "lz4"], *values: bytes, key: bytes | None = None
) -> int:
    """As one compressed batch; its first offset."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, compression_type=codec, max_batch_size=1 << 30)
    async with producer:
        batch = producer.create_batch()
        for value in values:
            assert batch.append(timestamp=None, key=key, value=value) is not None
        batch.close()
        sent = await (await producer.send_batch(batch, topic, partition=HERE))
        return int(sent.offset)


@asynccontextmanager
async def listened(kafka: SharedKafka, folder: Path) -> AsyncIterator[tuple[KafkaController, Outside]]:
    """A controller that has carried out a compressed batch already, and its outcomes."""
    prefix = f"hostile-{secrets.token_hex(4)}"
    outcomes = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50)
    async with controllers(folder, kafka.bootstrap, prefix, 1) as (one,), outcomes:
        outcomes.assign([TopicPartition(f"{prefix}.outcomes", HERE)])
        there = Outside(kafka.bootstrap, prefix, None, outcomes)  # type: ignore[arg-type]  # It publishes nothing here.
        await publish(kafka, f"{prefix}.commands", "zstd", command("before", "orders"))
        assert (await there.outcome("before"))["status"] == "accepted"
        yield one, there


async def test_a_batch_that_inflates_to_too_much_takes_little_is_told_and_holds_nothing_up(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    async with listened(kafka, tmp_path) as (one, there):
        topic, before = f"{there.prefix}.commands", one.peak_bytes()
        for codec in ("zstd", "gzip", "lz4"):
            first = await publish(kafka, topic, codec, *[bytes(RECORD_BYTES)] * RECORDS)
            told = await there.outcome(f"{topic}/{HERE}/{first}")
            assert (told["status"], told["error"]["name"], told["error"]["limit"]) == ("refused", "TooLarge", 16 << 20)
            await publish(kafka, topic, codec, command(f"behind-{codec}", "orders"))
            assert (await there.outcome(f"behind-{codec}"))["status"] == "unchanged"
        assert f"the batch of {RECORDS} commands from offset 1 on cannot be inflated" in one.log()
        assert one.peak_bytes() - before < memory_bytes_max
        async with Client(one.url) as client:
            [partition] = [part for part in (await client.status())["partitions"] if part["partition"] == HERE]
        assert partition["commands_lost"] == 3 * RECORDS
        assert "cannot be inflated within 16777216 bytes" in partition["commands_detail"]


async def test_huge_commands_and_huge_keys_in_a_batch_within_the_limit_take_little_and_hold_nothing_up(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    async with listened(kafka, tmp_path) as (one, there):
        topic, before = f"{there.prefix}.commands", one.peak_bytes()
        first = await publish(kafka, topic, "zstd", b"[" + b"[]," * (3 << 20) + b"[]]")
        assert (await there.outcome(f"{topic}/{HERE}/{first}"))["error"]["name"] == "TooLarge"
        # With such a key, the outcome would be larger than its topic allows.
        await publish(kafka, topic, "zstd", command("huge", "orders"), key=bytes(10 << 20))
        await publish(kafka, topic, "zstd", command("behind", "orders"))
        assert (await there.outcome("huge"))["status"] == "unchanged"
        assert (await there.outcome("behind"))["status"] == "unchanged"
        assert one.peak_bytes() - before < memory_bytes_max
