"""What the processes do that tests stop and kill: append for ever, and reign over instances with leases."""

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path

from domain.registry.instance import InstanceWeightChanged
from domain.registry.service import Heartbeat
from infra.kafka.log import KafkaLog
from infra.log.codec import CloudEventMapper
from infra.log.port import Cursor, EventLog
from infra.log.recorder import RecorderLog
from infra.sqlite.log import LogRecorder, SqliteLog
from tests.sample import envelope, register, sealed_batch
from workers.machine.partition import Partition
from workers.views.views import Views
from workers.writer.writer import Writer

BATCH_RECORDS = 50
INSTANCES = 20
LEASE_SECONDS = 1.0


def sqlite_log(path: Path) -> RecorderLog:
    """Partition 0 in the SQLite file."""
    recorder = LogRecorder(path)
    recorder.create_table()
    return SqliteLog(recorder, 0)


def append_to_sqlite(path: Path, cursor: Cursor, told: Connection) -> None:
    """Claim the log and append batches until killed; tell the position behind each acknowledged one."""
    asyncio.run(_append_for_ever(sqlite_log(path), cursor, told))


def append_to_kafka(place: tuple[str, str], cursor: Cursor, told: Connection) -> None:
    """The same in partition 0 of (bootstrap, prefix)."""
    asyncio.run(_append_to_kafka(*place, cursor, told))


async def _append_to_kafka(bootstrap: str, prefix: str, cursor: Cursor, told: Connection) -> None:
    async with KafkaLog(bootstrap, 0, prefix=prefix) as log:
        await _append_for_ever(log, cursor, told)


async def _append_for_ever(log: EventLog, cursor: Cursor, told: Connection) -> None:
    cursor = await log.claim("w1", cursor)
    events = [InstanceWeightChanged(instance="a", weight=number) for number in range(BATCH_RECORDS)]
    while True:
        told.send(cursor.position)
        records, cursor = sealed_batch(cursor, *events)
        await log.append(records)


def reign(path: Path, told: Connection) -> None:
    """Register instances with leases and keep them alive, telling after each round, until told to be quiet."""
    asyncio.run(_reign(sqlite_log(path), told))


async def _reign(log: RecorderLog, told: Connection) -> None:
    writer = Writer(log, Partition(0, CloudEventMapper()), Views([0]), name="w1")
    loop = asyncio.create_task(writer.run())
    names = [str(number) for number in range(INSTANCES)]
    await asyncio.gather(*(writer.submit(register(name, name, lease_seconds=LEASE_SECONDS)) for name in names))
    count = 0
    while not told.poll():
        count += 1
        beats = [envelope(f"{name}/{count}", Heartbeat(instance=name)) for name in names]
        answers = await asyncio.gather(*map(writer.submit, beats))
        told.send([answer.status for answer in answers])
        await asyncio.sleep(LEASE_SECONDS / 5)
    await loop
