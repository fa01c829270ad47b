"""The Faust application: membership in the group, the stream's records, and the timer that ticks. It holds no logic.

Why so little of it, and why these settings: docs/decisions/0032-telemetry-on-faust.md.
"""

from pathlib import Path
from typing import Final

import faust
from faust.types import TP, StreamT

from infra.kafka.topic import HEARTBEATS, topic_name
from workers.telemetry.batches import Batches, Record
from workers.telemetry.desk import Desk

tick_seconds: Final = 0.1


def application(desk: Desk, bootstrap: str, prefix: str, data: Path) -> faust.App:
    """The application of a worker; `data` is a folder for what Faust thinks that it must keep there."""
    topic = topic_name(HEARTBEATS, prefix)
    app = _configured(bootstrap, prefix, data)

    # Bytes as they are: a serializer that raises would end the agent.
    @app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"), name="heartbeats")
    async def hear(stream: StreamT[list[Record]]) -> None:
        async for batch in stream:
            for record in batch:
                # Kafka's own instant, since the messages themselves hold none.
                desk.hear(record.partition, record.offset, record.timestamp, record.key or b"", record.value or b"")

    @app.timer(interval=tick_seconds)  # type: ignore[untyped-decorator]
    async def tick() -> None:
        desk.tick()

    async def assigned(_app: faust.App, partitions: set[TP], **_: object) -> None:
        desk.assigned(found.partition for found in partitions if found.topic == topic)

    app.on_partitions_assigned.connect(assigned)  # type: ignore[arg-type]
    return app


def _configured(bootstrap: str, prefix: str, data: Path) -> faust.App:
    return faust.App(
        f"{prefix}.telemetry",
        broker=[f"kafka://{one}" for one in bootstrap.split(",")],
        datadir=data,  # else a folder appears where the process was started
        store="memory://",  # there are no tables: windows that are restored never expire
        table_standby_replicas=0,
        web_enabled=False,
        topic_allow_declare=False,  # controllers create the topics, with their settings
        topic_disable_leader=True,
        ConsumerScheduler=Batches,
        # Of a partition at once. With Faust's 1 MiB what waits while a worker catches up takes 30 MB more.
        consumer_max_fetch_size=128 * 1024,
        stream_buffer_maxsize=40,  # in batches; as many records as the 4,096 messages that Faust has by itself
        stream_wait_empty=False,  # a balancing waits for nobody: what was read twice counts once
        # A worker that is killed is missed after 6 s, which is the least that brokers allow unless told otherwise.
        broker_session_timeout=6,
        broker_heartbeat_interval=1,
        broker_rebalance_timeout=6,
        broker_request_timeout=20,  # not below the session timeout: ImproperlyConfigured
        broker_commit_interval=1,
        broker_commit_every=100_000,
        # What was before is read again by another consumer, so a new group has nothing to make up for.
        consumer_auto_offset_reset="latest",
        worker_redirect_stdouts=False,
    )
