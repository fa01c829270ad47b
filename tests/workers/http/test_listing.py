"""A projection that names a path is served: its list, its filters, one row by its key, and its place in the document."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from domain.message import Recorded
from domain.registry.instance import InstanceDeregistered, InstanceDrainStarted, InstanceRegistered
from domain.registry.service import DrainInstance
from muster.wire.command import Envelope
from muster.wire.error import InstanceNotFound
from muster.wire.stream import name_of
from projections.catalogue import PROJECTIONS
from projections.projection import Key, Projection
from tests.machine import Machine
from tests.sample import envelope, register
from workers.gateway import Gateway
from workers.http.application import application
from workers.http.openapi.document import document
from workers.views.table import Parked
from workers.views.views import Views


@dataclass(frozen=True)
class LockRow:
    """A lock, as a read model of tomorrow might have it."""

    service: str
    lock: str
    holder: str
    held: bool
    position: int


def fold(row: LockRow | None, recorded: Recorded[Any]) -> LockRow | None:
    event = recorded.event
    if isinstance(event, InstanceDeregistered):
        return None
    held = isinstance(event, InstanceDrainStarted)
    return LockRow(name_of(recorded.stream), event.instance, recorded.actor, held, recorded.position)


def key_of(recorded: Recorded[Any]) -> Key:
    return name_of(recorded.stream), recorded.event.instance


def missing(key: Key) -> InstanceNotFound:
    return InstanceNotFound(f"there is no lock {key[1]}", service=key[0], instance=key[1])


LOCKS = Projection(
    name="locks",
    revision=1,
    row=LockRow,
    key=("service", "lock"),
    events=frozenset((InstanceRegistered, InstanceDrainStarted, InstanceDeregistered)),
    key_of=key_of,
    fold=fold,
    path="locks",
    filters=("holder", "held"),
    missing=missing,
    summary="All locks",
)


class Face:
    """The HTTP face over views that keep one projection more; a machine gives them their events."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.views = Views([0], (*PROJECTIONS, LOCKS))
        gateway = Gateway("", "", 1, self.views, {}, {}, status=dict, check_output=lambda stream, instance: {})
        self.application = application(gateway, projections=(*PROJECTIONS, LOCKS))

    def happens(self, *envelopes: Envelope) -> None:
        self.machine.group(*envelopes)
        self.views.apply(0, self.machine.folded, self.machine.partition.cursor)

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and body of the answer."""
        path, _, query = path.partition("?")
        scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.application(scope, receive, send)
        return sent[0]["status"], json.loads(b"".join(part.get("body", b"") for part in sent[1:]))


@pytest.fixture
def face() -> Face:
    found = Face()
    found.happens(register("b", "1"), register("a", "2"), envelope("3", DrainInstance(instance="a")))
    return found


async def locks(face: Face, query: str = "") -> list[tuple[str, str, bool]]:
    status, body = await face.get(f"/v1/locks{query}")
    assert (status, body["token"]) == (200, f"0:{face.machine.partition.cursor.position}")
    return [(item["service"], item["lock"], item["held"]) for item in body["items"]]


async def test_its_rows_are_listed_in_the_order_of_their_keys_and_filtered(face: Face) -> None:
    assert await locks(face) == [("orders", "a", True), ("orders", "b", False)]
    assert await locks(face, "?held=true") == [("orders", "a", True)]
    assert await locks(face, "?holder=ann&held=false") == [("orders", "b", False)]
    assert await locks(face, "?holder=bob") == []


async def test_one_row_is_served_by_its_key(face: Face) -> None:
    row = {"service": "orders", "lock": "a", "holder": "ann", "held": True, "position": 3}
    assert await face.get("/v1/locks/orders/a") == (200, row)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/v1/locks/orders/x", (404, "urn:muster:InstanceNotFound")),
        ("/v1/locks?held=perhaps", (422, "urn:muster:InvalidCommand")),
        ("/v1/locks?colour=red", (422, "urn:muster:InvalidCommand")),
    ],
)
async def test_what_is_not_there_is_refused(face: Face, path: str, problem: tuple[int, str]) -> None:
    status, body = await face.get(path)
    assert (status, body["type"]) == problem


async def test_a_row_that_an_event_could_not_be_folded_into_does_not_pass_for_the_truth(face: Face) -> None:
    face.views.parked["locks", ("orders", "a")] = Parked(7, "impossible")
    status, body = await face.get("/v1/locks/orders/a")
    assert (status, body["type"], body["position"]) == (503, "urn:muster:NotReady", 7)
    _, listed = await face.get("/v1/locks")
    assert listed["parked"] == ["orders/a"]


def test_it_stands_in_the_document(face: Face) -> None:
    told = document(face.application.routes)
    assert {"/v1/locks", "/v1/locks/{service}/{lock}"} <= told["paths"].keys()
    names = {parameter["name"] for parameter in told["paths"]["/v1/locks"]["get"]["parameters"]}
    assert {"holder", "held", "consistency", "Muster-Token"} <= names
    assert told["components"]["schemas"]["Lock"]["properties"].keys() == {
        "service",
        "lock",
        "holder",
        "held",
        "position",
    }
