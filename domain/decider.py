"""What the rest of muster knows of an aggregate: one record, at the foot of the aggregate's file.

A decider is a state machine over one kind of stream: `decide` says what a command makes happen to a state, `evolve` what an
event makes of it. Both are pure. (The pattern: Jérémie Chassaing, "Functional Event Sourcing Decider".)
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from immutables import Map
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from domain.message import Event, Recorded
from muster.wire.command import Command

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)


class Timer(Protocol):
    """What runs out after `seconds`; hashable, and equal to itself as long as it is the same timer. `kind` and `name` tell
    it from others of its item.
    """

    @property
    def seconds(self) -> float:
        """Its full length."""

    @property
    def kind(self) -> str:
        """What it is for."""

    @property
    def name(self) -> str:
        """Which one of its kind it is; empty where there is only one."""


Renewed = Callable[[Any], bool]
"""Whether a timer gets its full length again."""

IsOnlySign = Callable[..., bool]
"""Of a sign of life and a state: whether it is accepted there, and changes nothing. Where it says no, the sign is decided."""


def _whole(_of: Any) -> str:
    return ""


def _last_version(state: Any) -> int | None:
    # A state's version counts its events; an event's version is its place among them, from 0 on.
    return state.version - 1 if state.version else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How a state is divided into items that commands and events are about: a service into instances, the cluster into nodes.

    `item` names the item of a message ("": the whole); `items` are those that may have timers; `part` gives the item as it
    stands (None: gone). `version` and `incarnation` of a part go into answers. `timers` are what can run out for it;
    `keeps_timers` says of an event, and the part after it, that they surely stay as they were; `renews` which of them a
    command gives their full length again (None: none); `expire` makes the command for one that has run out. A new writer gives
    them more than their full length once, so that who renews them can find it, where that comes `from_afar`.
    `left` says otherwise of one that nobody renews: `left(part, timer, now, newest)` seconds if a writer begins now, when
    the newest event is of that instant; or None.
    `signs` are the commands that are signs of life, each with whether it surely changes nothing of a state: as nearly all of
    them do, and `decide` then says so too.
    """

    item: Callable[[Any], str] = _whole
    items: Callable[[Any], Iterable[str]] = lambda _state: ()
    part: Callable[[Any, str], Any] = lambda state, _item: state
    version: Callable[[Any], int | None] = _last_version
    incarnation: Callable[[Any], int | None] = lambda _part: None
    timers: Callable[[Any], tuple[Timer, ...]] = lambda _part: ()
    keeps_timers: Callable[[Any, Any], bool] = lambda _event, _part: False
    left: Callable[..., float | None] = lambda _part, _timer, _now, _newest: None
    renews: Callable[[Any], Renewed | None] = lambda _command: None
    expire: Callable[[Any], Command] | None = None
    from_afar: bool = True
    signs: Mapping[type[Command], IsOnlySign] = field(default_factory=dict)


WHOLE: Final = Parts()
"""A state that is one item, without timers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider(Generic[S, C, E]):
    """An aggregate. `stream` is its kind of stream, as in `muster.wire.stream`.

    Anyone may publish `commands`; `internal` ones only controllers give to each other; `own` ones only the writer of the
    partition, for what it has seen itself. `decide` raises a `Refused`, and returns no events when all is so already; a saga
    has none of its own, since it decides together with its root (`sagas.engine`). `state` is the type of the state, for
    snapshots; None: the state is kept otherwise, as a service's is, by its instances. `listener` gives the stream of the saga
    that waits for what happens to this root, if there is one: it goes on in the same batch.
    """

    stream: str
    commands: tuple[type[C], ...]
    internal: tuple[type[C], ...] = ()
    own: tuple[type[C], ...] = ()
    events: tuple[type[E], ...]
    initial: S
    decide: Callable[[C, S], list[E]] | None
    evolve: Callable[[S, Recorded[E]], S]
    parts: Parts = WHOLE
    state: Any = None
    listener: Callable[[S], str | None] | None = None

    @property
    def all_commands(self) -> tuple[type[C], ...]:
        """All commands that it decides: those that anyone may give, and the internal ones."""
        return (*self.commands, *self.internal, *self.own)


class AsPairs:
    """In `Annotated[Map[K, V], AsPairs]`: the map as a list of [key, value] in JSON, for keys that are no texts."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """See pydantic."""
        # Snapshots are JSON, where only texts can be keys; some of these are numbers, or pairs of a shard and a node.
        pairs = handler.generate_schema(list[tuple[source.__args__]])
        return core_schema.no_info_after_validator_function(
            Map,
            pairs,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda found: list(found.items()), return_schema=pairs
            ),
        )
