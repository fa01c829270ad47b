"""The answers' shapes, for the OpenAPI document; tests hold the answers against them. Requests are the domain's own models.

What an answer consists of is said once, in `muster.wire`; see `workers.http.openapi.shape`.
"""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from muster.wire.read_model import Item, Page
from muster.wire.registry import answers
from muster.wire.registry.check import Check
from muster.wire.registry.spec import HeartbeatsVia
from muster.wire.telemetry import heard, loads, shard_loads
from workers.http.openapi.shape import Shape, shape

MarkShape: Final = shape(answers.Mark, "MarkShape")
CheckStatusShape: Final = shape(answers.CheckState, "CheckStatusShape")
InstanceItem: Final = shape(
    answers.Instance,
    "InstanceItem",
    "An instance as readers see it.",
    parts={answers.Mark: MarkShape, answers.CheckState: CheckStatusShape},
    without=("check_output",),
    # Controllers of before do not say it.
    heartbeats=Annotated[HeartbeatsVia, Field(default="direct")],
    checks=list[Check],
    suspect=Annotated[str | None, Field(default=None)],
)
InstanceWhole: Final = shape(
    answers.Instance, "InstanceWhole", "One instance, with the last output of its checks.", base=InstanceItem
)
# Absent where nothing is parked.
Listing: Final = shape(Page, "Listing", without=("items",), parked=Annotated[list[str] | None, Field(default=None)])


def list_of(item: type[Shape], text: str) -> type[Shape]:
    """The shape of a list of these items, called `<X>List` for an `<X>Item`."""
    return shape(Page, f"{item.__name__.removesuffix('Item')}List", text, base=Listing, parts={Item: item})


InstanceList: Final = list_of(InstanceItem, "Instances.")
# `duplicate` is said by a header.
Written: Final = shape(answers.Written, "Written", "What became of a write, once durable.", without=("duplicate",))
HistoryItem: Final = shape(answers.HistoryEntry, "HistoryItem", "One event of an instance: what, when, who and why.")
HistoryList: Final = shape(answers.History, "HistoryList", base=Listing, parts={answers.HistoryEntry: HistoryItem})
EventItem: Final = shape(answers.Event, "EventItem", "One event with its place.")
# The last two are absent from a page behind a position of one partition, which has `next_after`.
EventList: Final = shape(
    answers.EventPage,
    "EventList",
    parts={answers.Event: EventItem},
    behind=Annotated[str | None, Field(default=None)],
    before=Annotated[str | None, Field(default=None)],
)
Outcome: Final = shape(
    answers.Outcome,
    "Outcome",
    "What became of a command; `unknown`: ask again with the same id.",
    duplicate=Annotated[bool, Field(default=False)],
)
HeartbeatsHeardShape: Final = shape(
    heard.HeartbeatsHeard,
    "HeartbeatsHeardShape",
    parts={heard.UnheardInstance: shape(heard.UnheardInstance, "UnheardItem")},
)
ObservationsTakenShape: Final = shape(heard.ObservationsTaken, "ObservationsTakenShape")
ServiceLoadItem: Final = shape(
    loads.ServiceLoad,
    "ServiceLoadItem",
    parts={loads.ClientsWord: shape(loads.ClientsWord, "ClientsWordItem")},
)
ServiceLoadList: Final = shape(loads.ServiceLoads, "ServiceLoadList", parts={loads.ServiceLoad: ServiceLoadItem})
InstanceLoadList: Final = shape(
    loads.InstanceLoads,
    "InstanceLoadList",
    base=ServiceLoadList,
    parts={loads.SeenInstance: shape(loads.SeenInstance, "SeenInstanceItem")},
)
NodeLoadItem: Final = shape(shard_loads.NodeLoad, "NodeLoadItem")
ShardLoadItem: Final = shape(shard_loads.ShardLoad, "ShardLoadItem")
LoadList: Final = shape(
    shard_loads.ShardLoads,
    "LoadList",
    "The loads of services (`items`), of the instances of the one that was asked for (those that fail most first, then the "
    "slowest), of data nodes, and of the shards that were asked for.",
    base=InstanceLoadList,
    parts={shard_loads.NodeLoad: NodeLoadItem, shard_loads.ShardLoad: ShardLoadItem},
)
OutcomeList: Final = shape(answers.Outcomes, "OutcomeList", parts={answers.Outcome: Outcome})


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


class HeartbeatsShape(Shape):
    """Signs of life of instances: `[instance, incarnation, in_flight, per_second, failures, utilisation]`; the last four may be
    left out from the end, or be null.
    """

    agent: str
    service: str
    items: list[list[str | float | None]]


class HeartbeatBatch(Shape):
    """Signs of life of up to 5,000 instances."""

    beats: list[HeartbeatsShape]


class ObservationsShape(Shape):
    """What a client saw: `[instance, incarnation, attempts, failures, failing, latency]`; the last may be left out, or null."""

    observer: str
    service: str
    seconds: float
    observed: list[list[str | float | None]]


class ObservationBatch(Shape):
    """What clients saw of up to 5,000 instances."""

    observations: list[ObservationsShape]


class ProblemShape(BaseModel):
    """An RFC 9457 problem; `type` is `urn:muster:<Name>`, and further members are facts of the error (as `field`)."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
