"""What works without a client of muster: a command published with a plain Kafka client, and a join in SQL."""

import time
from typing import Any, Final
from uuid import uuid4

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from examples.demo.cluster import eventually
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
    stage.screen.heading("A plain Kafka client publishes a command")
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
        await consumer.topics()
        partitions = [
            TopicPartition("muster.outcomes", number)
            for number in consumer.partitions_for_topic("muster.outcomes") or ()
        ]
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
    """A table of one's own, joined with the healthy instances, says what discovery says."""
    stage.screen.heading("SQL joins muster.healthy_instances with a table of teams")
    wanted = [
        (team, service, instance, endpoint)
        for service, team in TEAMS
        for instance, endpoint in await _discovered(stage, service)
    ]
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute("CREATE SCHEMA demo; CREATE TABLE demo.team (service text PRIMARY KEY, name text)")
        await connection.executemany("INSERT INTO demo.team VALUES ($1, $2)", TEAMS)
        began = time.monotonic()

        async def same() -> bool:
            return [tuple(row) for row in await connection.fetch(JOIN)] == sorted(wanted)

        await eventually(same, f"SQL says {sorted(wanted)}", SQL_SECONDS_MAX)
        for row in await connection.fetch(JOIN):
            stage.screen.line("  ".join(row))
    finally:
        await connection.close()
    stage.claims.figure("until the tables agreed with the live view", milliseconds(time.monotonic() - began))
    stage.claims.claim("the join names exactly the instances that discovery offers", True, f"{len(wanted)} rows")


async def _discovered(stage: Stage, service: str) -> list[tuple[str, str]]:
    try:
        return [(row.instance, row.endpoint) for row in await stage.client.discover(service, consistency="strong")]
    except (NoHealthyInstances, ServiceNotFound):
        return []
