"""The answers' shapes, for the OpenAPI document; tests hold the answers against them. Requests are the domain's own models."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from muster.wire.registry.check import Check, Health


class Shape(BaseModel):
    """What all shapes share: nothing undocumented is sent."""

    model_config = ConfigDict(extra="forbid")


class MarkShape(Shape):
    """Why an instance is out of discovery, by whom and since when."""

    actor: str
    reason: str | None
    since: datetime


class CheckStatusShape(Shape):
    """What a check last said."""

    status: Health
    cause: str | None
    since: datetime | None


class InstanceItem(Shape):
    """An instance as readers see it."""

    service: str
    instance: str
    address: str
    port: int
    metadata: dict[str, str]
    tags: list[str]
    zone: str
    weight: int
    checks: list[Check]
    lease_seconds: float | None
    deregister_after_seconds: float | None
    health: Health
    cause: str | None
    health_since: datetime
    check_status: dict[str, CheckStatusShape]
    maintenance: MarkShape | None
    draining: MarkShape | None
    discoverable: bool
    incarnation: int
    version: int
    registered_at: datetime
    position: int


class InstanceWhole(InstanceItem):
    """One instance, with the last output of its checks."""

    check_output: dict[str, Any]


class Listing(Shape):
    """What all lists of views share: how far the view is, and for how long it has not been known to be current.

    `parked` names rows in the list that stand still because an event could not be folded into them.
    """

    token: str
    age_seconds: float
    parked: list[str] | None = None


class InstanceList(Listing):
    """Instances."""

    items: list[InstanceItem]


class ServiceItem(Shape):
    """A service and its instances by health."""

    service: str
    instances: int
    healthy: int
    unhealthy: int
    unknown: int
    position: int


class ServiceList(Listing):
    """Services."""

    items: list[ServiceItem]


class Written(Shape):
    """What became of a write, once durable."""

    status: Literal["accepted", "unchanged"]
    partition: int
    position: int
    version: int | None
    incarnation: int | None


class HistoryItem(Shape):
    """One event of an instance: what, when, who and why."""

    position: int
    at: datetime
    type: str
    data: dict[str, Any]
    actor: str | None
    reason: str | None
    command_id: str | None
    version: int | None


class HistoryList(Listing):
    """The newest events of an instance, oldest first; `count` says how many it has had."""

    items: list[HistoryItem]
    count: int


class EventItem(HistoryItem):
    """One event with its place."""

    partition: int
    stream: str
    correlation_id: str | None


class EventList(Shape):
    """Events of one partition in order; the next ones stand behind `next_after`."""

    items: list[EventItem]
    next_after: int
    token: str


class PublishedCommand(Shape):
    """A command as anyone may publish it; `data` is that of its type."""

    id: str
    type: str
    stream: str
    data: dict[str, Any]
    actor: str = "anonymous"
    reason: str | None = None
    expected_version: int | None = None


class CommandBatch(Shape):
    """Commands to run at once, in order per partition."""

    commands: list[PublishedCommand]


class Outcome(Shape):
    """What became of a command; `unknown`: ask again with the same id."""

    id: str
    status: Literal["accepted", "unchanged", "refused", "unknown"]
    partition: int | None
    position: int | None
    version: int | None
    incarnation: int | None
    error: dict[str, Any] | None
    duplicate: bool = False


class OutcomeList(Shape):
    """Outcomes in the order of the commands."""

    items: list[Outcome]


class ProblemShape(BaseModel):
    """An RFC 9457 problem; `type` is `urn:muster:<Name>`, and further members are facts of the error (as `field`)."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
