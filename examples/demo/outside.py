"""What works without a client of muster: a command published with a plain Kafka client, and a join in SQL."""

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from examples.demo.cluster import NotInTime, eventually
from examples.demo.stage import Stage, milliseconds
from muster import NoHealthyInstances, ServiceNotFound

ACTOR: Final = "nightly-batch"
REASON: Final = "reads its own disk"
SQL_SECONDS_MAX: Final = 15.0
TEAMS: Final = (("users", "identity"), ("orders", "shop"), ("greeter", "shop"))
JOIN: Final = """
    SELECT team.name, healthy.service, healthy.instance, healthy.address || ':' || healthy.port AS endpoint
    FROM muster.healthy_instances AS healthy JOIN demo.team AS team USING (service)
    ORDER BY 1, 2, 3
"""


async def command_by_kafka(stage: Stage, bootstrap: str) -> None:
    """A JSON document on `muster.commands` takes greeter into maintenance; the outcome comes on `muster.outcomes`."""
    stage.screen.step("A plain Kafka client publishes a command")
    command = {
        "id": uuid4().hex,
        "type": "muster.instance.set_maintenance.v1",
        "stream": "service/greeter",
        "data": {"instance": "greeter-1"},
        "actor": ACTOR,
        "reason": REASON,
    }
    began = time.monotonic()
    outcome = await _published(bootstrap, command)
    stage.claims.figure("command on Kafka → outcome on Kafka", milliseconds(time.monotonic() - began))
    stage.claims.claim("the outcome says accepted", outcome["status"] == "accepted", str(outcome))
    mark = (await stage.client.instance("greeter", "greeter-1", consistency="strong")).maintenance
    stage.claims.claim(
        "greeter-1 is in maintenance, by the actor and for the reason of the command",
        mark is not None and (mark.actor, mark.reason) == (ACTOR, REASON),
        f"{mark.actor}: {mark.reason}" if mark else "no maintenance",
    )


async def _published(bootstrap: str, command: dict[str, Any]) -> dict[str, Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    async with consumer, producer:
        numbers = await producer.partitions_for("muster.outcomes")
        partitions = [TopicPartition("muster.outcomes", number) for number in numbers]
        consumer.assign(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, end)
        key = str(command["stream"]).encode()
        await producer.send_and_wait("muster.commands", orjson.dumps(command), key=key)

        async def outcome() -> dict[str, Any] | None:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    found: dict[str, Any] = orjson.loads(record.value)
                    if found["id"] == command["id"]:
                        return found
            return None

        return await eventually(outcome, "the command has an outcome", 10.0)


async def join_by_sql(stage: Stage, dsn: str) -> None:
    """A table of one's own, joined with the healthy instances, says what discovery says, and follows a change."""
    stage.screen.step("SQL joins muster.healthy_instances with a table of teams, and users-1 is undrained")
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute("CREATE SCHEMA demo; CREATE TABLE demo.team (service text PRIMARY KEY, name text)")
        await connection.executemany("INSERT INTO demo.team VALUES ($1, $2)", TEAMS)
        await stage.client.undrain("users", "users-1", "it runs the new kernel")
        began, wanted = time.monotonic(), sorted([row async for row in _discovered(stage)])

        async def rows() -> list[tuple[str, ...]] | None:
            found = [tuple(row) for row in await connection.fetch(JOIN)]
            return found if found == wanted else None

        with suppress(NotInTime):
            await eventually(rows, "SQL says what discovery says", SQL_SECONDS_MAX)
        seconds, found = time.monotonic() - began, [tuple(row) for row in await connection.fetch(JOIN)]
    finally:
        await connection.close()
    stage.claims.figure("undrained → seen in SQL", milliseconds(seconds))
    for row in found:
        stage.screen.line("  ".join(row))
    stage.claims.claim(
        "the join names exactly the instances that discovery offers, users-1 among them",
        found == wanted and any(row[2] == "users-1" for row in found),
        f"{len(found)} rows",
    )


async def _discovered(stage: Stage) -> AsyncIterator[tuple[str, ...]]:
    for service, team in TEAMS:
        with suppress(NoHealthyInstances, ServiceNotFound):
            for row in await stage.client.discover(service, consistency="strong"):
                yield team, service, row.instance, row.endpoint
