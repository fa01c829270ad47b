"""What a controller answers, as frozen dataclasses. Instants are UTC.

Of newer controllers, fields that are unknown here are ignored; words and checks that are unknown here are kept as they came. So
what is read is typed `Health | str`, where it is a `Health` in what is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypedDict

from pydantic import BeforeValidator, Field, TypeAdapter

from muster.wire.problem import error_from
from muster.wire.read_model import Page, ReadModel
from muster.wire.registry.check import Check, Health
from muster.wire.registry.spec import HeartbeatsVia

FAIL_TOGETHER: Final = "checks fail together"
"""What is suspect of an instance that serves although its checks say otherwise, as do those of most of its service."""

DEREGISTERED: Final = "muster.instance.deregistered.v1"
"""The type of the event that ends an instance's registration; its `cause` says why."""


def suspicion(clients: int, answering: int) -> str:
    """What is suspect of it, and on how many hosts its clients see it answer (0: they have said nothing)."""
    return f"{FAIL_TOGETHER}; clients on {answering} of {clients} hosts see it answer" if answering else FAIL_TOGETHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a write; it is durable. `unchanged`: it was already so. `duplicate`: the answer to an earlier try.

    `position` is the place of its last event in `partition`; `version` and `incarnation` are those of the instance.
    """

    status: Literal["accepted", "unchanged"]
    partition: int
    position: int
    version: int | None = None
    incarnation: int | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a published command. `unknown`: no writer has answered; publish it again with the same id.

    `error` is the problem of a refused or unknown one, as it stands on the wire: `{name, detail, status, …}`.
    """

    id: str
    status: Literal["accepted", "unchanged", "refused", "unknown"]
    partition: int | None = None
    position: int | None = None
    version: int | None = None
    incarnation: int | None = None
    error: dict[str, Any] | None = None
    duplicate: bool = False

    def written(self) -> Written:
        """The write of an accepted or unchanged one; else raises its error, by its name."""
        if self.error is not None:
            raise error_from(self.error)
        assert self.status in ("accepted", "unchanged"), f"{self.status} without an error"
        assert self.partition is not None, "a write without its partition"
        assert self.position is not None, "a write without its position"
        return Written(
            status="accepted" if self.status == "accepted" else "unchanged",
            partition=self.partition,
            position=self.position,
            version=self.version,
            incarnation=self.incarnation,
            duplicate=self.duplicate,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Outcomes in the order of the commands."""

    items: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class UnknownCheck:
    """A check of a kind, or with a field, that only newer versions know: `data` is all of it, as it came."""

    kind: str
    name: str
    data: Mapping[str, object]


def _as_it_came(found: object) -> object:
    if not isinstance(found, dict):
        return found
    return {"kind": found.get("kind"), "name": found.get("name"), "data": found}


AnyCheck = Annotated[Check | Annotated[UnknownCheck, BeforeValidator(_as_it_came)], Field(union_mode="left_to_right")]
"""A check as it is read."""


@dataclass(frozen=True, slots=True)
class CheckState:
    """What a check last said."""

    status: Health | str
    cause: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Why an instance is out of discovery, by whom and since when."""

    actor: str
    reason: str | None
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A registered instance as readers see it. `version` serves as `expected_version`.

    `suspect`: why it is offered by discovery although its checks say that it is ill (None: they are believed).

    `check_output` is what its checks last put out; only `Client.instance` has it.
    """

    service: str
    instance: str
    address: str
    port: int
    metadata: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    zone: str = ""
    weight: int = 1
    checks: tuple[AnyCheck, ...] = ()
    lease_seconds: float | None = None
    deregister_after_seconds: float | None = None
    heartbeats: HeartbeatsVia | str = "direct"
    health: Health | str
    cause: str | None = None
    health_since: datetime
    check_status: dict[str, CheckState] = field(default_factory=dict)
    maintenance: Mark | None = None
    draining: Mark | None = None
    suspect: str | None = None
    discoverable: bool
    incarnation: int
    version: int
    registered_at: datetime
    position: int
    check_output: dict[str, Any] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """`address:port`, an IPv6 address in brackets."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service and its instances by health."""

    service: str
    instances: int
    healthy: int
    unhealthy: int
    unknown: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One thing that happened to an instance: when, what, by whom and why. `data` is the event's body."""

    position: int
    at: datetime
    type: str
    data: dict[str, Any]
    actor: str | None = None
    reason: str | None = None
    command_id: str | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(HistoryEntry):
    """One recorded fact, with its place in the log."""

    partition: int
    stream: str
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Page[HistoryEntry]):
    """The newest events of an instance, oldest first; `count` says how many it has had."""

    # Named again, since pydantic leaves what a dataclass inherits as it was there: an `Item` of any kind.
    items: tuple[HistoryEntry, ...]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events of one partition in order; the next ones stand behind `next_after`.

    Of several partitions, the newest last: the next ones stand `behind` these positions, and earlier ones `before` those (None:
    there are none). A page that was asked for a rare thing may have few events, or none, and more before or behind it.
    """

    items: tuple[Event, ...]
    next_after: int
    token: str
    behind: str = ""
    before: str | None = None


class EventQuery(TypedDict, total=False):
    """Which events, as keywords of `Client.events`; every one of them is optional.

    `type` in full or in short (`registered`); `since` and `until` have an offset, and include their own instant. `newest`:
    the newest that match, of all partitions (or the stream's, or `partition`); `before` and `behind` go on from such a page.
    Else they are the oldest behind position `after` of one partition: the stream's, or 0. Types, streams and instances
    that nobody knows are refused (InvalidCommand, ServiceNotFound, KeyspaceNotFound, InstanceNotFound) with those known.
    """

    stream: str | None
    type: str | None
    partition: int | None
    after: int | None
    limit: int
    since: datetime | None
    until: datetime | None
    actor: str | None
    instance: str | None
    newest: bool
    behind: str | None
    before: str | None


# Made once, with the module: to make one costs far more than to use it.
WRITTEN: Final = TypeAdapter(Written)
OUTCOME: Final = TypeAdapter(Outcome)
INSTANCE: Final = TypeAdapter(Instance)
SERVICES: Final = ReadModel(name="services", item=Service, key=("service",))
INSTANCE_PAGE: Final = TypeAdapter(Page[Instance])
HISTORY: Final = TypeAdapter(History)
EVENT_PAGE: Final = TypeAdapter(EventPage)
