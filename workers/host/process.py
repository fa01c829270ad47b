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
    wanted = read_folder(settings.config, via)
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    async with AsyncExitStack() as stack:
        topic = None
        if settings.kafka is not None:
            topic = TopicBeats(await stack.enter_async_context(KafkaPublisher(settings.kafka)), settings.prefix)
        client = await stack.enter_async_context(Client(settings.urls, cluster=settings.cluster))
        host = Host(client, settings.agent, topic)
        host.want(wanted)
        _LOG.info("%s has %d instances, by the files of %s", settings.agent, len(wanted), settings.config)

        def read_again() -> None:
            try:
                found = read_folder(settings.config, via)
            except InvalidInstance as error:
                # Half of what somebody is writing would take the other half out.
                _LOG.error("the files are not taken, all stays as it was: %s", error.detail)
                return
            _LOG.info("%s has %d instances, by the files of %s", settings.agent, len(found), settings.config)
            host.want(found)

        loop.add_signal_handler(signal.SIGHUP, read_again)
        running = asyncio.create_task(host.run(), name="host")
        asked = asyncio.create_task(stopped.wait(), name="stop")
        await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if running.done():
            running.result()
        running.cancel()
        await asyncio.wait([running])
        await _leave(host)


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
