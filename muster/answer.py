"""What a controller answers, as frozen dataclasses. Instants are UTC; fields of newer controllers are ignored."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import TypeAdapter

from domain.check import Check, Health

Item = TypeVar("Item")


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


@dataclass(frozen=True, slots=True)
class CheckState:
    """What one check last said, why, and since when."""

    status: Health
    cause: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Who took an instance out of discovery, why, and since when."""

    actor: str
    reason: str | None
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A registered instance as readers see it. `version` serves as `expected_version`."""

    service: str
    instance: str
    address: str
    port: int
    health: Health
    discoverable: bool
    incarnation: int
    version: int
    position: int
    registered_at: datetime
    health_since: datetime
    cause: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    zone: str = ""
    weight: int = 1
    checks: tuple[Check, ...] = ()
    check_status: dict[str, CheckState] = field(default_factory=dict)
    maintenance: Mark | None = None
    draining: Mark | None = None
    lease_seconds: float | None = None
    deregister_after_seconds: float | None = None

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
class Event:
    """One recorded fact: where, when, what, by whom and why. `data` is the event's body."""

    partition: int
    position: int
    stream: str
    version: int
    at: datetime
    type: str
    id: str
    actor: str
    reason: str | None = None
    command_id: str | None = None
    correlation_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A list as a controller answers it: the items, how far its view was (`token`), and how old that is."""

    items: tuple[Item, ...]
    token: str
    age_seconds: float


WRITTEN: Final = TypeAdapter(Written)
INSTANCE: Final = TypeAdapter(Instance)
SERVICE_PAGE: Final = TypeAdapter(Page[Service])
INSTANCE_PAGE: Final = TypeAdapter(Page[Instance])
EVENT_PAGE: Final = TypeAdapter(Page[Event])
