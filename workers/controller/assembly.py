"""What a controller is made of, constructed and connected; nothing runs yet. `process` starts and stops it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from infra.log.codec import CloudEventMapper
from infra.log.engine import Engine
from infra.settings import Settings
from infra.steady_clock import SteadyClock
from infra.telemetry.rows import KafkaRows
from muster.wire.command import Command
from muster.wire.route import partition_of
from workers.controller.conditions import Conditions
from workers.controller.readiness import unread, unwritten
from workers.controller.status import check_outputs, clock_status, status, telemetry_status
from workers.gateway import Executor, Gateway, PassOn, to_nobody
from workers.health.checker import Checker
from workers.health.observer import HealthObserver
from workers.health.policy import CheckPolicy
from workers.health.targets import Targets
from workers.http.application import Application, application
from workers.http.controller import peers as peer_routes
from workers.http.doors import Doors
from workers.machine.partition import Partition
from workers.peers.forwarding import Forwarding
from workers.peers.observations import pass_on
from workers.peers.peering import Peering
from workers.peers.presence import Presence
from workers.peers.told_loads import ToldLoads
from workers.projector.projector import Projector
from workers.sagas.driver import SagaDriver
from workers.sagas.group_keeper import GroupKeeper
from workers.sagas.second_opinion import SecondOpinion
from workers.views.loads import LoadRows, Loads
from workers.views.snapshotter import Snapshotter
from workers.views.views import Views
from workers.writer.commands_topic import CommandsTopic
from workers.writer.log_guard import LogGuard
from workers.writer.writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a controller stands on, all of it open. `bootstrap` is Kafka's address; None: the log is embedded, and there is no
    `peering`. `name` is the controller's, new at each start. `targets` are those whom checks may ask, which leave out all of
    this.
    """

    engine: Engine
    mapper: CloudEventMapper
    bootstrap: str | None
    name: str
    peering: Peering | None
    projector: Projector | None
    targets: Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerParts:
    """The parts of a controller. Those without Kafka are alone: `presence`, `rows`, `told_loads` are None, `topics` is empty."""

    gateway: Gateway
    application: Application
    writers: dict[int, Writer]
    snapshotters: dict[int, Snapshotter]
    checker: Checker
    opinion: SecondOpinion
    drivers: list[SagaDriver]
    keepers: list[GroupKeeper]
    topics: list[CommandsTopic]
    guard: LogGuard | None
    presence: Presence | None
    projector: Projector | None
    conditions: Conditions
    rows: LoadRows | None
    told_loads: ToldLoads | None


def assembled(settings: Settings, resources: Resources) -> ControllerParts:
    """The parts, connected with each other."""
    engine, bootstrap, projector = resources.engine, resources.bootstrap, resources.projector
    views = Views(sorted(engine.logs))
    shared = resources.peering
    # Opened after the gateway and the checker are made: these refer to what it will hold.
    by_partition = _Partitions(SteadyClock())
    checker = Checker(
        by_partition.observe,
        targets=resources.targets,
        mass_flip_seconds=settings.mass_flip_seconds,
        clock=by_partition.clock.now,
    )
    loads = Loads()
    conditions = Conditions(views, by_partition.writers, None if shared is None else shared.strangers, loads)
    gateway = _gateway(settings, resources, views, by_partition, checker, conditions, loads)
    by_partition.open(resources, views)
    drivers = [_driver(gateway, by_partition) for _ in by_partition.writers]
    keepers = [GroupKeeper(by_partition.observe, views.registry, by_partition.clock.now) for _ in by_partition.writers]
    topics = _topics(bootstrap, gateway, by_partition.writers, settings.prefix)
    _connect(views, by_partition.writers, checker, drivers, keepers, topics)
    return ControllerParts(
        gateway=gateway,
        application=_application(settings, gateway, by_partition.writers, resources),
        writers=by_partition.writers,
        snapshotters=by_partition.snapshotters,
        checker=checker,
        opinion=SecondOpinion(by_partition.observe, views.registry, loads),
        drivers=drivers,
        keepers=keepers,
        topics=topics,
        guard=by_partition.guarded(engine),
        presence=_presence(bootstrap, shared, by_partition.writers, settings.prefix),
        projector=projector,
        conditions=conditions,
        rows=None if bootstrap is None else KafkaRows(bootstrap, len(engine.logs), settings.prefix),
        told_loads=_told_loads(bootstrap, len(engine.logs), settings.prefix, loads),
    )


def _connect(
    views: Views,
    writers: Mapping[int, Writer],
    checker: Checker,
    drivers: Sequence[SagaDriver],
    keepers: Sequence[GroupKeeper],
    topics: Sequence[CommandsTopic],
) -> None:
    """Let those hear of views and writers that work while a partition is written."""
    for driver, keeper in zip(drivers, keepers, strict=True):
        views.listen(driver.instances_changed)
        views.listen(keeper.instances_changed)
    for number, writer in enumerate(writers.values()):
        writer.observers += [HealthObserver(checker), drivers[number], keepers[number], *topics[number : number + 1]]


@dataclass(frozen=True, slots=True)
class _Partitions:
    """What there is of each partition, by its number; nothing until `open`. All of them share the clock."""

    clock: SteadyClock
    writers: dict[int, Writer] = field(default_factory=dict)
    executors: dict[int, Executor] = field(default_factory=dict)
    snapshotters: dict[int, Snapshotter] = field(default_factory=dict)

    def open(self, resources: Resources, views: Views) -> None:
        """Make the parts of every partition of the log."""
        logs, shared = resources.engine.logs, resources.peering
        for number, log in logs.items():
            partition = Partition(number, resources.mapper, partitions=len(logs))
            wanted = partial(_owns, shared, partition)
            writer = Writer(log, partition, views, name=resources.name, wanted=wanted, clock=self.clock.now)
            self.writers[number] = writer
            # An embedded log has one controller. On Kafka, another one may write the partition, and is asked then.
            self.executors[number] = (
                writer if shared is None else Forwarding(writer, shared.members, shared.strangers, shared.peers, views)
            )
            self.snapshotters[number] = Snapshotter(resources.engine.snapshots, partition, views)

    def guarded(self, engine: Engine) -> LogGuard | None:
        """What looks after the log from here on, and is asked by every writer; None: nobody but us can harm the log."""
        if engine.faults is None:
            return None
        guard = LogGuard(engine.faults, self.wake)
        for number, writer in self.writers.items():
            writer.refused = partial(guard.refused, number)
        return guard

    def wake(self) -> None:
        """Let every writer look again at whether it should write."""
        for writer in self.writers.values():
            writer.wake()

    def observe(self, stream: str, command: Command) -> None:
        """Give the command to the writer of the stream's partition."""
        self._writer(stream).observe(stream, command)

    def state(self, stream: str) -> Any:
        """The stream's state, as this controller has it."""
        return self._writer(stream).partition.state(stream)

    def _writer(self, stream: str) -> Writer:
        return self.writers[partition_of(stream, len(self.writers))]


def _gateway(
    settings: Settings,
    resources: Resources,
    views: Views,
    by_partition: _Partitions,
    checker: Checker,
    conditions: Conditions,
    loads: Loads,
) -> Gateway:
    """What the faces ask; of `by_partition` it will hold what is opened later."""
    engine, projector, shared = resources.engine, resources.projector, resources.peering
    writers, snapshotters = by_partition.writers, by_partition.snapshotters
    # The status tells what the gateway knows, so it is asked for once that is there.
    gateway = Gateway(
        cluster=settings.cluster,
        controller=settings.controller,
        partitions=len(engine.logs),
        views=views,
        executors=by_partition.executors,
        archives=engine.logs,
        status=lambda: (
            status(gateway, settings, engine, writers, snapshotters, projector, checker, conditions)
            | clock_status(by_partition.clock)
            | telemetry_status(loads)
            | {"strange_signs": 0 if shared is None else shared.strangers.signs}
        ),
        check_output=partial(check_outputs, checker, views),
        controllers=tuple if shared is None else shared.members.named,
        policy=CheckPolicy(settings.check_interval_min, resources.targets, settings.kafka is not None).refusal,
        loads=loads,
        pass_on=to_nobody if shared is None else _passing_on(shared, len(engine.logs)),
    )
    return gateway


def _passing_on(shared: Peering, partitions: int) -> PassOn:
    return partial(pass_on, members=shared.members, peers=shared.peers, partitions=partitions)


def _topics(bootstrap: str | None, gateway: Gateway, writers: Mapping[int, Writer], prefix: str) -> list[CommandsTopic]:
    if bootstrap is None:
        return []
    return [CommandsTopic(bootstrap, writer, gateway.refusals, prefix) for writer in writers.values()]


def _driver(gateway: Gateway, by_partition: _Partitions) -> SagaDriver:
    clock, weights = by_partition.clock.now, gateway.loads.shards.weights
    shards = gateway.views.shards
    return SagaDriver(by_partition.observe, gateway.submit, by_partition.state, shards, clock=clock, weights=weights)


def _told_loads(bootstrap: str | None, partitions: int, prefix: str, loads: Loads) -> ToldLoads | None:
    if bootstrap is None:
        return None
    told = ToldLoads(bootstrap, partitions, prefix)
    loads.tell = told.tell
    return told


def _owns(shared: Peering | None, partition: Partition) -> bool:
    # Without a peering the log is embedded: there is no other controller that could write it.
    if shared is None:
        return True
    is_ours = shared.members.owner(partition.number) == shared.members.self_
    return is_ours and shared.strangers.hold(partition.number, partition.cursor.writer) is None


def _application(
    settings: Settings,
    gateway: Gateway,
    writers: Mapping[int, Writer],
    resources: Resources,
) -> Application:
    shared = resources.peering
    # Only controllers that share a log speak to each other; alone, nobody may give what one of them gives another.
    more = () if shared is None else peer_routes.routes(writers, shared.credentials, gateway.take)
    # It listens to the views from here on, before the log is replayed: so watches can be resumed over a restart.
    return application(
        gateway,
        unready=partial(unread, writers),
        unwritten=partial(unwritten, writers, shared),
        mapper=resources.mapper,
        more=more,
        doors=Doors(settings.own_hosts, settings.cluster),
    )


def _presence(
    bootstrap: str | None, shared: Peering | None, writers: Mapping[int, Writer], prefix: str
) -> Presence | None:
    if bootstrap is None or shared is None:
        return None
    shared.strangers.reigning = lambda: {writer.partition.cursor.writer for writer in writers.values()}

    def changed() -> None:
        for writer in writers.values():
            writer.wake()

    def recovered() -> bool:
        return all(writer.recovered.is_set() for writer in writers.values())

    members, roll, strangers = shared.members, shared.roll, shared.strangers
    return Presence(
        bootstrap, members, roll, strangers, len(writers), recovered=recovered, changed=changed, prefix=prefix
    )
