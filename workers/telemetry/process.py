"""A worker of the telemetry tier as a process: the log for reading, the publisher, the desk, and Faust around them."""

import asyncio
import logging
import signal
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

from infra.kafka.engine import open_kafka
from infra.kafka.topic import HEARTBEATS, topic_name
from infra.telemetry.past import PastReader
from infra.telemetry.publisher import KafkaPublisher
from muster.wire.error import NotReady
from workers.telemetry.app import application
from workers.telemetry.desk import Desk

stop_seconds_max: Final = 10.0
_LOG: Final = logging.getLogger("muster.telemetry")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Settings of a worker. `kafka` is HOST:PORT; `partitions` those of the log (None: 8); `worker` is another one each start."""

    kafka: str
    prefix: str = "muster"
    partitions: int | None = None
    worker: str


def new_name() -> str:
    """A name for a start of a worker on this host."""
    return f"{gethostname()[:100]}-{uuid4().hex[:6]}"


async def serve(settings: WorkerSettings) -> None:
    """Run a worker until SIGTERM or SIGINT. Raises NotReady when the topics are not there, or Faust has ended by itself."""
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    topic = topic_name(HEARTBEATS, settings.prefix)
    async with AsyncExitStack() as stack:
        # Topics are the controllers' to make: with a misspelt prefix a worker would leave empty ones.
        engine = await stack.enter_async_context(
            open_kafka(settings.kafka, partitions=settings.partitions, prefix=settings.prefix, create=False)
        )
        publisher = await stack.enter_async_context(KafkaPublisher(settings.kafka))
        data = Path(stack.enter_context(TemporaryDirectory(prefix="muster-telemetry-")))

        def reader(partition: int, since_ms: int, first: int) -> PastReader:
            return PastReader(settings.kafka, topic, partition, since_ms=since_ms, first=first)

        desk = Desk(settings.worker, engine, publisher, reader, settings.prefix)
        app = application(desk, settings.kafka, settings.prefix, data)
        _quiet()
        running = asyncio.create_task(desk.run(), name="desk")
        asked = asyncio.create_task(stopped.wait(), name="stop")
        await app.start()
        _LOG.info("%s takes part in %s.telemetry on %s", settings.worker, settings.prefix, settings.kafka)
        ended = asyncio.create_task(app.wait_until_stopped(), name="faust")
        try:
            await asyncio.wait((running, asked, ended), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            if not asked.done():
                raise NotReady("the telemetry worker has ended by itself; its log says why, start it again")
        finally:
            await _end(desk, app.stop(), (running, asked, ended))


async def _end(desk: Desk, stopping: Awaitable[None], tasks: tuple["asyncio.Task[object]", ...]) -> None:
    """Leave the group at once, so that others take over in a second, and say so."""
    try:
        async with asyncio.timeout(stop_seconds_max):
            await stopping
            await desk.leave()
    except TimeoutError:
        _LOG.warning("it did not stop within %g s", stop_seconds_max)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _quiet() -> None:
    # aiokafka has hundreds of lines a second while a broker is away; Faust tells each step of each balancing.
    for name in ("aiokafka", "faust", "mode"):
        logging.getLogger(name).setLevel(logging.ERROR)
