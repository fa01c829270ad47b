"""A controller as a process: what is started, in which order, and how it stops.

    port ─▶ engine, database ─▶ parts ─▶ HTTP ─▶ snapshots restored ─▶ writers, checks, sagas, projector ─▶ ready
    stop: writers answer what waits ─▶ the rest is cancelled ─▶ last snapshots ─▶ HTTP drained ─▶ engine closed

HTTP answers from the first moment on, with NotReady until every partition's log has been read.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from infra.cluster_key import own_key, read_key
from infra.deadline import ended_in_time
from infra.kafka.engine import open_kafka
from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from infra.log.codec import CloudEventMapper
from infra.log.engine import Engine
from infra.option import LOCAL, schema_of
from infra.postgres.store import ReadStore
from infra.settings import Settings
from infra.sqlite.engine import open_embedded
from workers.collector import COLLECTOR
from workers.controller.assembly import ControllerParts, Resources, assembled
from workers.controller.http_server import listening_socket, serving, url_of
from workers.controller.snapshots import keep_snapshots, restore_snapshots, take_last_snapshots
from workers.gateway import Gateway
from workers.health.targets import Endpoint, Targets, endpoints
from workers.peers.members import Member
from workers.peers.peering import peering
from workers.projector.loads import LoadWriter
from workers.projector.projector import Projector

log = logging.getLogger(__name__)
answer_seconds_max: Final = 1.5
"""How long the writers may take to answer what waits when the controller stops; behind it comes what else stops within 5 s."""

publish_seconds_max: Final = 0.5
"""How long the outcomes of what they have answered may then take to be on their topic."""

snapshot_seconds_max: Final = 1.5

KAFKA_PORT: Final = 9092
POSTGRES_PORT: Final = 5432


@dataclass(frozen=True, slots=True)
class Running:
    """A started controller: where it listens, and what it offers in this process."""

    url: str
    gateway: Gateway


async def serve(settings: Settings) -> None:
    """Run a controller until SIGTERM or SIGINT. Raises NotReady, with what to do, when it must not start."""
    stopped = asyncio.Event()
    with ended_in_time() as end:

        def stop() -> None:
            # Also while it starts, which may wait long for a server that is away: what is started then ends with the process.
            end.begin()
            stopped.set()

        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop)
        async with running(settings) as controller:
            log.info("muster is ready", extra={"url": controller.url, "controller": settings.controller})
            await stopped.wait()
            log.info("muster is stopping: waiting commands are answered, new ones are refused")


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """A controller that runs for the length of the block. Raises NotReady when it must not start."""
    settings.check()
    mapper = CloudEventMapper(f"/muster/{settings.cluster}")
    async with AsyncExitStack() as stack:
        # The port comes first: two controllers with the same settings must not fight for a log first and a port later.
        listening = stack.enter_context(listening_socket(settings))
        # Before anything is started: whoever may not read the key, or has none, is told so at once.
        secret = _secret(settings)
        bootstrap = await _kafka(settings, stack)
        engine = await stack.enter_async_context(_engine(settings, bootstrap))
        dsn = await _postgres(settings, stack)
        projector = await _projector(settings, dsn, engine, mapper, stack)
        # The name is new at each start: a controller that is started again is another one to its peers.
        name, url = f"{settings.controller}/{uuid4().hex[:8]}", settings.advertise or url_of(listening)
        shared = None if secret is None else peering(secret, settings.prefix, Member(name, url))
        if shared is not None:
            await stack.enter_async_context(shared.peers)
        resources = Resources(
            engine=engine,
            mapper=mapper,
            bootstrap=bootstrap,
            name=name,
            peering=shared,
            projector=projector,
            targets=Targets(settings.check_targets, _protected(listening, bootstrap, dsn)),
        )
        parts = assembled(settings, resources)
        async with serving(parts.application, listening, settings.limits), _working(parts):
            yield Running(url, parts.gateway)


def _secret(settings: Settings) -> bytes | None:
    """The cluster's key; None: the log is embedded, so there are no peers, and no key is read or made."""
    if settings.kafka is None:
        return None
    return own_key(settings.data) if settings.cluster_key is None else read_key(settings.cluster_key)


async def _kafka(settings: Settings, stack: AsyncExitStack) -> str | None:
    """Kafka's address, after a local broker was started if that is wanted; None: the log is embedded."""
    if settings.kafka != LOCAL:
        return settings.kafka
    broker = await stack.enter_async_context(LocalKafka(settings.data / "kafka").kept())
    return broker.bootstrap


def _engine(settings: Settings, bootstrap: str | None) -> AbstractAsyncContextManager[Engine]:
    if bootstrap is None:
        return open_embedded(settings.data, partitions=settings.partitions, cluster=settings.cluster)
    return open_kafka(bootstrap, partitions=settings.partitions, cluster=settings.cluster, prefix=settings.prefix)


async def _postgres(settings: Settings, stack: AsyncExitStack) -> str | None:
    """PostgreSQL's DSN, after a local server was started if that is wanted; None: no tables are wanted."""
    if settings.postgres != LOCAL:
        return settings.postgres
    return (await stack.enter_async_context(LocalPostgres(settings.data / "postgres").kept())).dsn


async def _projector(
    settings: Settings, dsn: str | None, engine: Engine, mapper: CloudEventMapper, stack: AsyncExitStack
) -> Projector | None:
    """The projector into PostgreSQL; None: no tables are wanted."""
    if dsn is None:
        return None
    store = await stack.enter_async_context(ReadStore(dsn, schema=schema_of(settings.prefix)))
    return Projector(list(engine.logs.values()), store, mapper)


def _protected(listening: socket.socket, bootstrap: str | None, dsn: str | None) -> list[Endpoint]:
    """What no check may ask, whoever registers it: these trust whoever reaches them, and a check comes from here."""
    # As it listens, and not as the settings say: port 0 is any.
    host, port = listening.getsockname()[:2]
    servers = [*endpoints(bootstrap or "", KAFKA_PORT), *endpoints(dsn or "", POSTGRES_PORT)]
    return [(host, port), *servers]


@asynccontextmanager
async def _working(parts: ControllerParts) -> AsyncIterator[None]:
    """Recover, then do all the controller's work for the length of the block. Entered once every log has been read."""
    COLLECTOR.off("recovery")
    await restore_snapshots(parts.snapshotters)
    parts.application.restored()
    # Before the first writer claims anything: where history has been lost, or is being lost, nothing is added to it.
    if parts.guard is not None:
        await parts.guard.look()
    async with asyncio.TaskGroup() as tasks:
        writing = [tasks.create_task(one.run(), name=f"writer {number}") for number, one in parts.writers.items()]
        helping = [tasks.create_task(work, name=name) for name, work in _helpers(parts)]
        await asyncio.gather(*(writer.recovered.wait() for writer in parts.writers.values()))
        _calm_collector()
        try:
            yield
        finally:
            for writer in parts.writers.values():
                writer.stop()
            # The helpers still run while the writers answer what waits: outcomes are published, forwarded, projected.
            await asyncio.wait(writing, timeout=answer_seconds_max)
            publishing = [tasks.create_task(topic.published()) for topic in parts.topics]
            if publishing:
                await asyncio.wait(publishing, timeout=publish_seconds_max)
            for task in (*helping, *writing, *publishing):
                task.cancel()
            # After the writers, so that a snapshot holds all that was answered; a crash before it costs a longer start.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(snapshot_seconds_max):
                    await take_last_snapshots(parts.writers, parts.snapshotters)


def _helpers(parts: ControllerParts) -> list[tuple[str, Coroutine[Any, Any, None]]]:
    """All that runs beside the writers, with the names of the tasks."""
    helpers = [
        ("checker", parts.checker.run()),
        ("second opinion", parts.opinion.run()),
        ("snapshots", keep_snapshots(parts.writers, parts.snapshotters)),
    ]
    helpers.append(("conditions", parts.conditions.run()))
    if parts.rows is not None:
        helpers.append(("loads", parts.gateway.loads.run(parts.rows)))
    if parts.told_loads is not None:
        helpers.append(("told loads", parts.told_loads.run()))
    helpers += [("commands", topic.run()) for topic in parts.topics]
    helpers += [("sagas", driver.run()) for driver in parts.drivers]
    helpers += [("groups", keeper.run()) for keeper in parts.keepers]
    if parts.guard is not None:
        helpers.append(("log guard", parts.guard.run()))
    if parts.presence is not None:
        helpers.append(("presence", parts.presence.run()))
    if parts.projector is not None:
        helpers.append(("projector", parts.projector.run()))
        helpers.append(("projected loads", LoadWriter(parts.projector.loads, parts.gateway.loads).run()))
    return helpers


def _calm_collector() -> None:
    """Keep the garbage collector away from what recovery built, and let it look rarely at the rest.

    Its full collections would visit every instance, and stop all answers meanwhile.
    """
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    COLLECTOR.on("recovery")
