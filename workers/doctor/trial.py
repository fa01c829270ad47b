"""A Kafka cluster tried out: whether it refuses an old writer, and how long appends and reads take.

The fence is really tested: a writer claims a partition, another one claims it too, and the first one's append must be
refused. Everything happens on topics with a prefix of its own, which are deleted again.
"""

import asyncio
import secrets
import time
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final, cast

from aiokafka.errors import KafkaError

from domain.message import Recorded, to_json
from domain.registry.instance import InstanceDrainStarted
from infra.kafka.log import KafkaLog
from infra.kafka.provision import provision
from infra.kafka.topic import TOPICS, topic_name
from infra.log.codec import CloudEventMapper, Draft
from infra.log.port import START, Cursor
from muster.wire.error import Fenced, MusterError, Uncertain
from workers.doctor.admin import open_admin
from workers.doctor.finding import ROUNDS, TIMEOUT_SECONDS, Finding, median_ms, reason

SLOW_MILLISECONDS: Final = 20.0


async def try_out(bootstrap: str) -> list[Finding]:
    """The findings of the trial. A trial that fails is a fault, not an error."""
    # A new name each time, so that two trials never meet, nor the topics that a killed one has left.
    prefix = f"muster-doctor-{secrets.token_hex(4)}"
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await provision(bootstrap, partitions=1, prefix=prefix)
            return [await _round_trips(bootstrap, prefix), await _fence(bootstrap, prefix)]
    except (MusterError, KafkaError, OSError, TimeoutError) as error:
        remedy = "allow this user to create topics and to use transactional ids"
        return [Finding("fault", "kafka trial", f"a trial on topics {prefix}.* failed: {reason(error)}", remedy)]
    finally:
        # With a time limit of its own: a trial that has used up its time still takes its topics away.
        await _delete(bootstrap, prefix)


async def _fence(bootstrap: str, prefix: str) -> Finding:
    async with KafkaLog(bootstrap, 0, prefix=prefix) as old, KafkaLog(bootstrap, 0, prefix=prefix) as new:
        # The second claim takes over the transactional id: from then on the broker must refuse the first writer.
        old_cursor = await old.claim("doctor-old", START)
        await new.claim("doctor-new", START)
        try:
            await old.append(_batch(old_cursor)[0])
        except Fenced:
            return Finding("ok", "kafka fence", "an old writer is refused by the broker")
        except Uncertain:
            pass  # The record is in the log, after the new writer's claim: the broker did not stop it.
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
                # The reader waits before the append begins, so that its own start is not measured.
                seen = asyncio.ensure_future(anext(tail))
                await log.append(records)
                appended.append(time.perf_counter() - started)
                await seen
                read.append(time.perf_counter() - started)
    found = f"append {median_ms(appended):.1f} ms, append to reader {median_ms(read):.1f} ms"
    if median_ms(appended) <= SLOW_MILLISECONDS:
        return Finding("ok", "kafka round trip", found)
    return Finding("warning", "kafka round trip", found, "bring controller and brokers closer; writes wait for this")


def _batch(cursor: Cursor) -> tuple[Any, Cursor]:
    """One small event as the next batch after the cursor, and the cursor after it."""
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
    return CloudEventMapper().seal([Draft(recorded, None, to_json(event))], cursor, None)


async def _delete(bootstrap: str, prefix: str) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), open_admin(bootstrap) as admin:
            await admin.delete_topics([topic_name(topic.name, prefix) for topic in TOPICS])
    except (KafkaError, OSError, TimeoutError):
        pass  # A broker that is away has been reported already; some empty topics remain there.
