"""Snapshots in a compacted Kafka topic: a partition's chunks under `<generation>/<number>`, its manifests last."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from infra.kafka.topic import BATCH_BYTES_MAX, PREFIX, SNAPSHOTS, topic_name
from infra.log.snapshot import PartitionSnapshot, assembled, manifest, opened
from muster.wire.error import NotReady

_MANIFEST: Final = "manifest"


class KafkaSnapshots:
    """The snapshots of one cluster on Kafka. Loading and saving raise NotReady when Kafka does not answer."""

    def __init__(self, bootstrap: str, prefix: str = PREFIX) -> None:
        self._bootstrap = bootstrap
        self._topic = topic_name(SNAPSHOTS, prefix)
        self._numbers: dict[int, int] = {}

    async def load(self, partition: int) -> PartitionSnapshot | None:
        """See `SnapshotStore.load`."""
        return next(self._whole(partition, await self._read(partition)), None)

    async def kept(self, partition: int) -> list[PartitionSnapshot]:
        """See `SnapshotArchive.kept`."""
        return list(self._whole(partition, await self._read(partition)))

    async def _read(self, partition: int) -> dict[str, bytes]:
        try:
            return await self._records(partition)
        except KafkaError as error:
            raise NotReady(f"the snapshots on Kafka cannot be read: {error}") from error

    def _whole(self, partition: int, records: Mapping[str, bytes]) -> Iterator[PartitionSnapshot]:
        """The whole snapshots among the records, the newest first."""
        found = []
        for key, value in records.items():
            generation, _, kind = key.partition("/")
            if kind == _MANIFEST and (document := opened(value)) is not None:
                found.append((document, generation))
        # The newest one may have been half written over when its writer died; then the one before it is whole.
        for document, generation in sorted(found, key=lambda pair: pair[0]["number"], reverse=True):
            self._numbers[partition] = max(self._numbers.get(partition, 0), document["number"])
            count = len(document["chunks"])
            snapshot = assembled(document, [records.get(f"{generation}/{number}") for number in range(count)])
            if snapshot is not None:
                yield snapshot

    async def save(self, partition: int, snapshot: PartitionSnapshot) -> None:
        """See `SnapshotStore.save`."""
        number = self._numbers.get(partition, 0) + 1
        generation = number % 2
        try:
            async with self._producing() as producer:
                sent = [
                    await producer.send(self._topic, chunk, f"{generation}/{index}".encode(), partition)
                    for index, chunk in enumerate(snapshot.chunks)
                ]
                # No chunk is under way when the manifest is sent. After a crash up to here, this generation's old
                # manifest does not fit its chunks any more, so the other generation is loaded. Each chunk's own
                # answer is awaited, since a flush says nothing of a chunk that was refused.
                await asyncio.gather(*sent)
                document = manifest(snapshot, number)
                await producer.send_and_wait(self._topic, document, f"{generation}/{_MANIFEST}".encode(), partition)
        except KafkaError as error:
            raise NotReady(f"the snapshot could not be written to Kafka: {error}") from error
        self._numbers[partition] = number

    @asynccontextmanager
    async def _producing(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,  # A repeated chunk would be harmless, a manifest before its chunks would not.
            max_request_size=BATCH_BYTES_MAX,
            max_batch_size=BATCH_BYTES_MAX,
            compression_type=None,  # the chunks come compressed; twice would only cost every start time
        )
        try:
            await producer.start()
            yield producer
        finally:
            await producer.stop()

    async def _records(self, partition: int) -> dict[str, bytes]:
        """The newest value of each key."""
        here = TopicPartition(self._topic, partition)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=2 * BATCH_BYTES_MAX,
        )
        try:
            await consumer.start()
            consumer.assign([here])
            end = (await consumer.end_offsets([here]))[here]
            records: dict[str, bytes] = {}
            while await consumer.position(here) < end:
                for record in (await consumer.getmany(here, timeout_ms=1_000)).get(here, []):
                    if record.key is not None and record.value is not None:
                        records[record.key.decode()] = record.value
                await asyncio.sleep(0)
            return records
        finally:
            await consumer.stop()
