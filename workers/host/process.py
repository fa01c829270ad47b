"""A host as a process: its files, the client of the controllers, where heartbeats go, and signals."""

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.telemetry.publisher import KafkaPublisher
from muster.client.client import Client
from muster.wire.error import InvalidInstance, MusterError
from muster.wire.registry.spec import HeartbeatsVia
from workers.host.beats import TopicBeats
from workers.host.config import read_folder
from workers.host.host import Host

leave_seconds_max: Final = 8.0
_LOG: Final = logging.getLogger("muster.host")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """Settings of a host. `config` is its folder of TOML files, `agent` its name. `kafka`: heartbeats go there, to the topic of
    this prefix, and telemetry keeps the leases; None: they go to the controllers.
    """

    config: Path
    agent: str
    urls: Sequence[str]
    cluster: str | None = None
    kafka: str | None = None
    prefix: str = "muster"


async def serve(settings: HostSettings) -> None:
    """Run a host until SIGTERM or SIGINT. Raises InvalidInstance when its files are wrong, NotReady when Kafka is away."""
    via: HeartbeatsVia = "direct" if settings.kafka is None else "topic"
    loop, stopped, changed = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    # Before anything is read, which takes a while: nobody waits with a signal until somebody is there to hear it.
    for name, event in ((signal.SIGTERM, stopped), (signal.SIGINT, stopped), (signal.SIGHUP, changed)):
        loop.add_signal_handler(name, event.set)
    wanted = read_folder(settings.config, via)
    async with AsyncExitStack() as stack:
        topic = None
        if settings.kafka is not None:
            topic = TopicBeats(await stack.enter_async_context(KafkaPublisher(settings.kafka)), settings.prefix)
        client = await stack.enter_async_context(Client(settings.urls, cluster=settings.cluster))
        host = Host(client, settings.agent, topic)
        host.want(wanted)
        _LOG.info("%s has %d instances, by the files of %s", settings.agent, len(wanted), settings.config)
        running = asyncio.create_task(host.run(), name="host")
        reading = asyncio.create_task(read_again(host, settings.config, via, changed), name="files")
        asked = asyncio.create_task(stopped.wait(), name="stop")
        await asyncio.wait((running, reading, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        reading.cancel()
        # Both end by nothing but a fault; a task that was told to end has not done so yet.
        for task in (running, reading):
            if task.done():
                task.result()
        running.cancel()
        await asyncio.wait([running])
        await _leave(host)


async def read_again(host: Host, folder: Path, via: HeartbeatsVia, changed: asyncio.Event) -> None:
    """Read the files of the folder whenever they have changed, for ever; what is wrong is told, and changes nothing."""
    while True:
        await changed.wait()
        changed.clear()
        try:
            # Beside the loop: thousands of tables take seconds, and leases would run out meanwhile.
            found = await asyncio.to_thread(read_folder, folder, via)
        except InvalidInstance as error:
            # Half of what somebody is writing would take the other half out.
            _LOG.error("the files are not taken, all stays as it was: %s", error.detail)
            continue
        _LOG.info("there are %d instances now, by the files of %s", len(found), folder)
        host.want(found)


async def _leave(host: Host) -> None:
    try:
        async with asyncio.timeout(leave_seconds_max):
            await host.leave()
    except TimeoutError:
        _LOG.warning(
            "instances stay until their leases run out: no controller has heard of it in %g s", leave_seconds_max
        )
    except MusterError as error:
        _LOG.warning("instances stay until their leases run out: %s", error.detail)
