"""The aggregates that a partition holds, as one literal table: what the partition machine must know of each of them.

A root's events go to its own stream. A saga's commands give events for two streams, its own and its root's
(`keyspace/users` of `keyspace/users/migration/17`), and so does a root's command that starts a saga: therefore every decision
here names the stream of each event. All streams of a root are in its partition, so one batch holds them all.

Which sagas there are, a partition is given: `Aggregates(definitions)`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final

from domain import saga
from domain.message import Event, Recorded
from domain.registry import service
from domain.registry.service import ObserveCheck
from domain.shards import cluster, keyspace, node
from muster.wire import stream as streams
from muster.wire.command import Command
from muster.wire.stream import kind_of, root_of, saga_number_of
from sagas.catalogue import DEFINITIONS
from sagas.engine import decide as engine
from sagas.engine import timers as saga_timers
from sagas.engine.course import Produced, Root
from sagas.engine.definition import Definition, Definitions, starts

States = Mapping[str, Any]
"""The partition's states by stream; a stream without events has none."""

Placed = tuple[str, Event]
"""An event, and the stream that it is for."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What the partition machine knows of a kind of stream.

    An event and a command are about an *item* of the stream (a service's instance, a node of the cluster, else the whole
    stream, ""), and `part` gives the item as it stands (None: gone); `fold` gives the state behind an event, with the part
    that the event is about. `version` and `incarnation` of a part go into answers; `timers` tells what can run out for it, and
    `keeps_timers` which events, of a part that is still there, surely leave that as it was.
    """

    kind: str
    initial: Any
    commands: tuple[type[Command], ...]
    events: tuple[type[Event], ...]
    decide: Callable[[Command, str, States], list[Placed]]
    fold: Callable[[Any, Recorded], tuple[Any, Any]]
    item: Callable[[Any], str]
    items: Callable[[Any], Iterable[str]]
    part: Callable[[Any, str], Any]
    version: Callable[[Any], int | None]
    incarnation: Callable[[Any], int | None]
    timers: Callable[[Any], tuple[Any, ...]] = lambda _part: ()
    keeps_timers: Callable[[Any, Any], bool] = lambda _event, _part: False
    renews: Callable[[Command], Callable[[Any], bool] | None] = lambda _command: None
    expire: Callable[[Any], Command] | None = None
    dump: Callable[[Any], dict[str, Any]] = lambda _state: {}
    load: Callable[[dict[str, Any]], Any] = lambda _plain: None


def _decide_service(command: Command, stream: str, states: States) -> list[Placed]:
    events = service.decide(command, states.get(stream, service.INITIAL))
    return [(stream, event) for event in events]


def _decide_cluster(command: Command, stream: str, states: States) -> list[Placed]:
    return [(stream, event) for event in cluster.decide(command, states.get(stream, cluster.INITIAL))]


def _decide_keyspace(command: Command, stream: str, states: States) -> list[Placed]:
    return [(stream, event) for event in keyspace.decide(command, states.get(stream, keyspace.INITIAL))]


def _root(stream: str, states: States) -> Root:
    """The root of a saga: an aggregate of any kind."""
    kind = of_stream(stream)

    def decide(command: Command, state: Any) -> list[Event]:
        return [event for _, event in kind.decide(command, stream, {stream: state})]

    def evolve(state: Any, recorded: Recorded) -> Any:
        return kind.fold(state, recorded)[0]

    return Root(stream, states.get(stream, kind.initial), decide, evolve)


def _placed(produced: list[Produced], root_stream: str, saga_stream: str) -> list[Placed]:
    return [(root_stream if of_root else saga_stream, event) for of_root, event in produced]


def _whole(_of: Any) -> str:
    return ""


def _folding_whole(evolve: Callable[[Any, Any], Any]) -> Callable[[Any, Recorded], tuple[Any, Any]]:
    def fold(state: Any, recorded: Recorded) -> tuple[Any, Any]:
        after = evolve(state, recorded.event)
        return after, after

    return fold


def _fold_cluster(state: cluster.Cluster, recorded: Recorded) -> tuple[cluster.Cluster, Any]:
    after = cluster.evolve(state, recorded.event)
    return after, CLUSTER.part(after, CLUSTER.item(recorded.event))


def _last_version(state: Any) -> int | None:
    return state.version - 1 if state.version else None


SERVICE: Final = Aggregate(
    kind=streams.SERVICE,
    initial=service.INITIAL,
    commands=(*service.COMMANDS, *service.INTERNAL_COMMANDS),
    events=service.EVENTS,
    decide=_decide_service,
    fold=service.fold,
    item=lambda about: about.instance,
    items=lambda state: state.instances,
    part=lambda state, instance: state.instances.get(instance),
    version=lambda instance: instance.version if instance is not None else None,
    incarnation=attrgetter("incarnation"),
    timers=service.timers,
    keeps_timers=service.keeps_timers,
    renews=service.renews,
    expire=service.expire,
)
KEYSPACE: Final = Aggregate(
    kind=streams.KEYSPACE,
    initial=keyspace.INITIAL,
    commands=(*keyspace.COMMANDS, *keyspace.INTERNAL_COMMANDS),
    events=keyspace.EVENTS,
    decide=_decide_keyspace,
    fold=_folding_whole(keyspace.evolve),
    item=_whole,
    items=lambda _state: (),
    part=lambda state, _item: state,
    version=_last_version,
    incarnation=lambda _state: None,
    dump=keyspace.dump,
    load=keyspace.load,
)
CLUSTER: Final = Aggregate(
    kind=streams.CLUSTER,
    initial=cluster.INITIAL,
    commands=(*node.COMMANDS, *node.INTERNAL_COMMANDS),
    events=node.EVENTS,
    decide=_decide_cluster,
    fold=_fold_cluster,
    item=lambda about: getattr(about, "node", ""),
    items=cluster.items,
    part=lambda state, item: state.nodes.get(item) if item else state,
    version=lambda part: part.version if part is not None else None,
    incarnation=lambda part: getattr(part, "incarnation", None),
    timers=cluster.timers,
    renews=cluster.renews,
    expire=cluster.expire,
    dump=cluster.dump,
    load=cluster.load,
)


def _sagas(definitions: Definitions) -> Aggregate:
    """The aggregate of all sagas, which do what these definitions say."""

    def decide(command: Command, stream: str, states: States) -> list[Placed]:
        root = root_of(stream)
        produced = engine.decide(command, states.get(stream, saga.INITIAL), _root(root, states), definitions)
        return _placed(produced, root, stream)

    def timers(state: saga.Saga) -> tuple[Any, ...]:
        if state.ended:
            return ()
        return saga_timers.timers(state, definitions[state.definition, state.definition_version])

    return Aggregate(
        kind=streams.SAGA,
        initial=saga.INITIAL,
        commands=(*saga.COMMANDS, *saga.INTERNAL_COMMANDS),
        events=saga.EVENTS,
        decide=decide,
        fold=_folding_whole(saga.evolve),
        item=_whole,
        items=lambda _state: ("",),
        part=lambda state, _item: state,
        version=_last_version,
        incarnation=lambda state: saga_number_of(state.id) if state.id else None,
        timers=timers,
        renews=saga_timers.renews,
        expire=saga_timers.expire,
        dump=saga.dump,
        load=saga.load,
    )


def _starting(definition: Definition, root: Aggregate) -> Aggregate:
    """The root's aggregate, for the command that starts a saga of this definition."""

    def decide(command: Command, stream: str, states: States) -> list[Placed]:
        saga_stream, produced = engine.begin(command, _root(stream, states), definition)
        return _placed(produced, stream, saga_stream)

    return replace(root, decide=decide)


ROOTS: Final = (SERVICE, KEYSPACE, CLUSTER)


class Aggregates:
    """The aggregates of a partition by their streams, events and commands; its sagas are of these definitions."""

    def __init__(self, definitions: Definitions = DEFINITIONS) -> None:
        kinds = (*ROOTS, _sagas(definitions))
        self.of_kind = {kind.kind: kind for kind in kinds}
        self.of_event = {event: kind for kind in kinds for event in kind.events}
        self.of_command = {command: kind for kind in kinds for command in kind.commands}
        for command, definition in starts(definitions).items():
            self.of_command[command] = _starting(definition, self.of_kind[definition.root])

    def of_stream(self, stream: str) -> Aggregate:
        """The kind of a stream."""
        return self.of_kind[kind_of(stream)]


AGGREGATES: Final = Aggregates()
"""Those of a controller, with all sagas of the catalogue."""

OF_EVENT: Final[dict[type[Event], Aggregate]] = AGGREGATES.of_event


def of_stream(stream: str) -> Aggregate:
    """The kind of a stream."""
    return AGGREGATES.of_stream(stream)


def inside_id(command: Command, stream: str) -> str:
    """What a command from inside is called; the stream's version, added to it, makes it unique."""
    if isinstance(command, ObserveCheck):
        return f"check/{stream}/{command.instance}/{command.check}"
    return f"{command.type}/{stream}"


def incarnation_behind(recorded: Recorded, part: Any) -> int | None:
    """The incarnation that the event's command is answered with; of an item that is gone behind it, what the event names."""
    if part is None:
        return getattr(recorded.event, "incarnation", None)
    return OF_EVENT[type(recorded.event)].incarnation(part)
