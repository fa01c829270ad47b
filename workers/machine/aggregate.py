"""The aggregates of a partition: which decider answers for a stream, a command, an event; and how sagas are decided.

A root's events go to its own stream. A saga's commands give events for two streams, its own and its root's
(`keyspace/users` of `keyspace/users/migration/17`), and so does a root's command that starts a saga: therefore every decision
here names the stream of each event. All streams of a root are in its partition, so one batch holds them all.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from domain import saga
from domain.catalogue import DECIDERS
from domain.decider import Decider, Parts
from domain.message import Event, Recorded, foreseen
from domain.registry.observation import ObserveCheck
from muster.wire.command import Command, Envelope
from muster.wire.error import Refused
from muster.wire.sagas import not_found
from muster.wire.stream import SERVICE, kind_of, root_of, saga_number_of
from sagas.catalogue import DEFINITIONS
from sagas.engine import decide as engine
from sagas.engine import timers
from sagas.engine.course import Produced, Root
from sagas.engine.definition import Definitions, starts

States = Mapping[str, Any]
"""The partition's states by stream; a stream without events has none."""

Placed = tuple[str, Event]
"""An event, and the stream that it is for."""

AnyDecider = Decider[Any, Any, Any]


class Aggregates:
    """The deciders by kind of stream, by event and by command; sagas do what these definitions say."""

    def __init__(self, definitions: Definitions = DEFINITIONS) -> None:
        deciders = [_timed(found, definitions) if found.decide is None else found for found in DECIDERS]
        self.of_kind: dict[str, AnyDecider] = {decider.stream: decider for decider in deciders}
        self.of_event: dict[type[Event], AnyDecider] = {
            event: decider for decider in deciders for event in decider.events
        }
        self.of_command: dict[type[Command], AnyDecider] = {
            command: decider for decider in deciders for command in decider.all_commands
        }
        self._signs = {
            command: (decider, is_only_sign)
            for decider in deciders
            for command, is_only_sign in decider.parts.signs.items()
        }
        self._definitions, self._starts = definitions, starts(definitions)
        # The command that starts a saga is its root's: `definition.root` is the kind of stream that it is for.
        self.of_command |= {command: self.of_kind[found.root] for command, found in self._starts.items()}

    def of_stream(self, stream: str) -> AnyDecider:
        """The decider of a stream."""
        return self.of_kind[kind_of(stream)]

    def only_sign(self, envelope: Envelope, states: States) -> AnyDecider | None:
        """The decider of a sign of life that surely changes nothing; None: of any other command."""
        found, state = self._signs.get(type(envelope.command)), states.get(envelope.stream)
        if found is None or state is None or envelope.expected_version is not None:
            return None
        decider, is_only_sign = found
        return decider if is_only_sign(envelope.command, state) else None

    def decide(self, command: Command, stream: str, states: States) -> list[Placed]:
        """What the command, to this stream, makes happen, and in which streams. Raises a `Refused`; empty: already so."""
        # Asked first: the root's decider has this command in its list, but does not decide it.
        definition = self._starts.get(type(command))
        if definition is not None:
            saga_stream, produced = engine.begin(command, self._root(stream, states), definition)
            return _placed(produced, stream, saga_stream)
        decider = self.of_command[type(command)]
        state = states.get(stream, decider.initial)
        if decider.decide is not None:
            return [(stream, event) for event in decider.decide(command, state)]
        assert isinstance(command, saga.AnyCommand), f"only sagas decide together with their roots, not {command.type}"
        if state.version == 0:
            raise not_found(stream)
        root = root_of(stream)
        produced = engine.decide(command, state, self._root(root, states), self._definitions)
        return _placed(produced, root, stream)

    def heard(self, stream: str, placed: Sequence[Placed], states: States) -> list[Placed]:
        """What the saga that listens to this root makes of what a command has just made happen to it; or the one that begins by
        that.
        """
        # First, since most commands make nothing happen: heartbeats and renewals come by here too.
        if not placed:
            return []
        decider = self.of_stream(stream)
        if decider.listener is None:
            return []
        root = self._root(stream, states)
        for whose, event in placed:
            if whose == stream:
                root.state = root.evolve(root.state, foreseen(stream, root.state.version, event))
        id_ = decider.listener(root.state)
        if id_ is None:
            return self._begun(root)
        # A saga whose own events are among these was decided on by this very command, and has heard of it already.
        if id_ not in states or any(whose == id_ for whose, _ in placed):
            return []
        return _placed(engine.hear(states[id_], root, self._definitions), stream, id_)

    def _begun(self, root: Root) -> list[Placed]:
        """The saga that is due by how the root stands now: in the batch of what has made it due, so that nobody waits for two."""
        for definition in self._starts.values():
            if definition.begins is None or definition.root != kind_of(root.stream):
                continue
            command = definition.begins(root.state)
            # Of what is refused nothing is recorded: the command that was given is decided all the same.
            with suppress(Refused):
                if command is not None:
                    id_, produced = engine.begin(command, root, definition)
                    return _placed(produced, root.stream, id_)
        return []

    def _root(self, stream: str, states: States) -> Root:
        """The root of a saga as it stands: an aggregate of any kind that decides by itself."""
        decider = self.of_stream(stream)
        assert decider.decide is not None, f"{stream} cannot be the root of a saga"
        return Root(stream, states.get(stream, decider.initial), decider.decide, decider.evolve)


def _placed(produced: Iterable[Produced], root: str, saga_stream: str) -> list[Placed]:
    return [(root if of_root else saga_stream, event) for of_root, event in produced]


def _timed(decider: AnyDecider, definitions: Definitions) -> AnyDecider:
    """The decider of sagas, with the timers that their definitions give them."""

    def of_saga(state: saga.Saga) -> tuple[Any, ...]:
        return () if state.ended else timers.timers(state, definitions[state.definition, state.definition_version])

    parts = Parts(
        items=lambda _state: ("",),
        incarnation=lambda state: saga_number_of(state.id) if state.id else None,
        timers=of_saga,
        renews=timers.renews,
        expire=timers.expire,
        from_afar=False,
    )
    return replace(decider, parts=parts)


AGGREGATES: Final = Aggregates()
"""Those of a controller, with all sagas of the catalogue."""


def own_id(command: Command, stream: str) -> str:
    """What a command of the writer's own is called; the stream's version, added to it, makes it unique."""
    if isinstance(command, ObserveCheck):
        return f"check/{stream}/{command.instance}/{command.check}"
    return f"{command.type}/{stream}"


def own_actor(stream: str) -> str:
    """Who the writer is in the log, when it says what it has seen itself."""
    return "muster/checker" if kind_of(stream) == SERVICE else "muster"


def seen_incarnation(aggregates: Aggregates, recorded: Recorded, part: Any) -> int | None:
    """The incarnation that the event's command is answered with; of an item that is gone after it, what the event names."""
    if part is None:
        return getattr(recorded.event, "incarnation", None)
    return aggregates.of_event[type(recorded.event)].parts.incarnation(part)
