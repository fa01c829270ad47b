"""A controller process: opens an engine, recovers, writes, checks, serves, and stops cleanly."""

import asyncio
import contextlib
import gc
import logging
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any, Final
from uuid import uuid4

import uvicorn

from infra.kafka.engine import open_kafka
from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from infra.log.codec import CloudEventMapper
from infra.log.engine import Engine
from infra.postgres.store import ReadStore
from infra.settings import LOCAL, Settings
from infra.sqlite.engine import open_embedded
from muster.wire.command import Command
from muster.wire.error import NotReady, Transient
from muster.wire.route import partition_of
from workers.collector import COLLECTOR
from workers.controller.status import status
from workers.gateway import Control, Executor
from workers.health.checker import Checker
from workers.health.observer import ReignChecks
from workers.http import peers as peer
from workers.http.application import Application, application
from workers.http.connection import Connection
from workers.machine.partition import Partition
from workers.peers.forwarding import Forwarding, Peers
from workers.peers.members import Member, Members
from workers.peers.presence import RollCall
from workers.projector.projector import Projector
from workers.sagas.driver import SagaDriver
from workers.views.snapshotter import Snapshotter
from workers.views.views import Views
from workers.writer.commands_topic import CommandsTopic
from workers.writer.writer import Writer

log = logging.getLogger(__name__)
snapshot_look_seconds: Final = 5.0
drain_timeout_seconds: Final = 5


@dataclass(frozen=True, slots=True)
class Running:
    """A started controller: where it listens, and what it offers in this process."""

    url: str
    control: Control


async def serve(settings: Settings) -> None:
    """Run a controller until SIGTERM or SIGINT. Raises NotReady, with what to do, when it must not start."""
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with running(settings) as controller:
        log.info("muster is ready", extra={"url": controller.url, "controller": settings.controller})
        await stopped.wait()
        log.info("muster is stopping: what waits is answered, nothing new is taken")


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """A controller that runs for the length of the block. Raises NotReady when it must not start."""
    settings.check()
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(_listening(settings))
        bootstrap = await _kafka(settings, stack)
        engine = await stack.enter_async_context(_engine(settings, bootstrap))
        dsn = await _postgres(settings, stack)
        self_ = Member(f"{settings.controller}/{uuid4().hex[:8]}", settings.advertise or _url(settings, listening))
        peers = await stack.enter_async_context(Peers())
        mapper = CloudEventMapper(f"/muster/{settings.cluster}")
        projector = await _projector(dsn, engine, mapper, settings, stack)
        parts = _assembled(settings, engine, mapper, bootstrap, self_, peers, projector)
        async with _http(parts.application, listening), _working(parts):
            yield Running(self_.url, parts.control)


async def _kafka(settings: Settings, stack: AsyncExitStack) -> str | None:
    """The bootstrap address, with a local broker started if asked for; None: embedded."""
    if settings.kafka != LOCAL:
        return settings.kafka
    broker = await stack.enter_async_context(LocalKafka(settings.data / "kafka"))
    return broker.bootstrap


async def _postgres(settings: Settings, stack: AsyncExitStack) -> str | None:
    """The DSN, with a local server started if asked for; None: no tables."""
    if settings.postgres != LOCAL:
        return settings.postgres
    server = await stack.enter_async_context(LocalPostgres(settings.data / "postgres"))
    return server.dsn


async def _projector(
    dsn: str | None, engine: Engine, mapper: CloudEventMapper, settings: Settings, stack: AsyncExitStack
) -> Projector | None:
    if dsn is None:
        return None
    schema = re.sub(r"[^a-z0-9_]", "_", settings.prefix.lower())
    store = await stack.enter_async_context(ReadStore(dsn, schema=schema))
    return Projector(list(engine.logs.values()), store, mapper)


def _engine(settings: Settings, bootstrap: str | None) -> AbstractAsyncContextManager[Engine]:
    if bootstrap is None:
        return open_embedded(settings.data, partitions=settings.partitions, cluster=settings.cluster)
    return open_kafka(bootstrap, partitions=settings.partitions, cluster=settings.cluster, prefix=settings.prefix)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a controller is made of, wired but not running."""

    control: Control
    application: Application
    writers: dict[int, Writer]
    snapshotters: dict[int, Snapshotter]
    checker: Checker
    topics: list[CommandsTopic]
    drivers: list[SagaDriver]
    roll_call: RollCall | None
    projector: Projector | None


def _assembled(
    settings: Settings,
    engine: Engine,
    mapper: CloudEventMapper,
    bootstrap: str | None,
    self_: Member,
    peers: Peers,
    projector: Projector | None,
) -> _Parts:
    views = Views(sorted(engine.logs))
    members = Members(self_) if bootstrap is not None else None
    executors: dict[int, Executor] = {}
    writers: dict[int, Writer] = {}
    snapshotters: dict[int, Snapshotter] = {}
    topics: list[CommandsTopic] = []
    drivers: list[SagaDriver] = []

    def observe(stream: str, command: Command) -> None:
        writers[partition_of(stream, len(writers))].observe(stream, command)

    checker = Checker(observe)
    control = Control(
        cluster=settings.cluster,
        controller=settings.controller,
        partitions=len(engine.logs),
        views=views,
        executors=executors,
        archives=engine.logs,
        status=lambda: {
            **status(settings.cluster, settings.controller, engine, views, writers, snapshotters),
            "projector": projector.status() if projector is not None else None,
        },
        check_output=lambda stream, instance: _outputs(checker, views, stream, instance),
    )
    for number, partition_log in engine.logs.items():
        partition = Partition(number, mapper)
        wanted = partial(_owns, members, number)
        writer = writers[number] = Writer(partition_log, partition, views, name=self_.name, wanted=wanted)
        executors[number] = writer if members is None else Forwarding(writer, members, peers)
        snapshotters[number] = Snapshotter(engine.snapshots, partition, views)
        drivers.append(SagaDriver(observe, control.submit, views.shards))
        writer.observers += [ReignChecks(checker), drivers[-1]]
        if bootstrap is not None:
            topics.append(CommandsTopic(bootstrap, writer, settings.prefix))
            writer.observers.append(topics[-1])
    # The application listens to the views before the log is replayed: so watchers resume over a restart.
    app = application(control, unready=lambda: _unready(writers), mapper=mapper)
    app.api.include_router(peer.router(writers))
    roll_call = None
    if bootstrap is not None and members is not None:
        roll_call = _roll_call(bootstrap, members, writers, settings.prefix)
    return _Parts(control, app, writers, snapshotters, checker, topics, drivers, roll_call, projector)


def _owns(members: Members | None, partition: int) -> bool:
    return members is None or members.owner(partition) == members.self_


def _roll_call(bootstrap: str, members: Members, writers: Mapping[int, Writer], prefix: str) -> RollCall:
    def changed() -> None:
        for writer in writers.values():
            writer.wake()

    def recovered() -> bool:
        return all(writer.recovered.is_set() for writer in writers.values())

    return RollCall(bootstrap, members, len(writers), recovered=recovered, changed=changed, prefix=prefix)


def _unready(writers: Mapping[int, Writer]) -> str | None:
    reading = [number for number, writer in writers.items() if not writer.recovered.is_set()]
    return f"the log of partitions {reading} is still being read; wait" if reading else None


@asynccontextmanager
async def _working(parts: _Parts) -> AsyncIterator[None]:
    """Recover, then write, check and snapshot for the length of the block."""
    writers = parts.writers
    COLLECTOR.off("recovery")
    await asyncio.gather(*(snapshotter.restore() for snapshotter in parts.snapshotters.values()))
    parts.application.restored()
    async with asyncio.TaskGroup() as tasks:
        writing = [tasks.create_task(writer.run(), name=f"writer {number}") for number, writer in writers.items()]
        helping = [
            tasks.create_task(parts.checker.run(), name="checker"),
            tasks.create_task(_keep_snapshots(writers, parts.snapshotters), name="snapshots"),
            *(tasks.create_task(topic.run(), name="commands") for topic in parts.topics),
            *(tasks.create_task(driver.run(), name="sagas") for driver in parts.drivers),
            *([tasks.create_task(parts.roll_call.run(), name="roll call")] if parts.roll_call else []),
            *([tasks.create_task(parts.projector.run(), name="projector")] if parts.projector else []),
        ]
        await asyncio.gather(*(writer.recovered.wait() for writer in writers.values()))
        _calm_collector()
        try:
            yield
        finally:
            for writer in writers.values():
                writer.stop()
            await asyncio.wait(writing, timeout=drain_timeout_seconds)
            for task in (*helping, *writing):
                task.cancel()
            await _last_snapshots(writers, parts.snapshotters)


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to the process and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def _http(app: Application, listening: socket.socket) -> AsyncIterator[None]:
    """The HTTP face, until the block ends; then requests under way are answered and watches told to come back."""
    config = uvicorn.Config(
        app,
        loop="none",
        http=Connection,
        ws="none",
        lifespan="on",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=4096,
        timeout_graceful_shutdown=drain_timeout_seconds,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listening]), name="http")
    await asyncio.wait([serving, asyncio.create_task(server.listens.wait())], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        app.drain()
        server.should_exit = True
        await serving


def _outputs(checker: Checker, views: Views, stream: str, instance: str) -> dict[str, Any]:
    known = views.instances.get(stream.removeprefix("service/"), {}).get(instance)
    names = known.checks if known is not None else {}
    found = {name: checker.output(stream, instance, name) for name in names}
    return {name: output for name, output in found.items() if output is not None}


async def _keep_snapshots(writers: Mapping[int, Writer], snapshotters: Mapping[int, Snapshotter]) -> None:
    while True:
        await asyncio.sleep(snapshot_look_seconds)
        # Nothing is answered before the last partition is read: a snapshot of the first ones would only delay that.
        recovered = all(writer.recovered.is_set() for writer in writers.values())
        for snapshotter in snapshotters.values():
            try:
                await snapshotter.take_if_due(recovered=recovered)
            except Transient as error:
                log.warning("no snapshot was taken", extra={"reason": error.detail})


async def _last_snapshots(writers: Mapping[int, Writer], snapshotters: Mapping[int, Snapshotter]) -> None:
    for number, snapshotter in snapshotters.items():
        if writers[number].state == "stopped":
            with contextlib.suppress(Transient):  # The next start reads more of the log; nothing else is lost.
                await snapshotter.take()


def _calm_collector() -> None:
    """Keep the garbage collector away from what recovery built; measured: its full collections were the p99."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    COLLECTOR.on("recovery")


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """The listening socket, taken before anything else, so that two controllers never fight for a log over a port."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named as TCP, so that event loops turn Nagle's algorithm off: with it small answers wait 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
        except OSError as error:
            raise NotReady(f"cannot listen on {settings.http}: {error.strerror}; choose another --http") from None
        yield listening


def _url(settings: Settings, listening: socket.socket) -> str:
    """Where the controller answers. A wildcard address answers nobody: then it is the host's name."""
    host, port = listening.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
