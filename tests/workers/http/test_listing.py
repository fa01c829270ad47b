"""A projection that names a path is served: its list, its filters, one row by its key, and its place in the document."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any

import pytest

from domain.message import Recorded
from domain.registry.instance import InstanceDeregistered, InstanceDrainStarted, InstanceRegistered
from domain.registry.service import DeregisterInstance, DrainInstance, SetMaintenance
from muster.client.event_stream import EventParser
from muster.client.rows import Keyed
from muster.wire.command import Envelope
from muster.wire.error import InstanceNotFound
from muster.wire.read_model import ReadModel
from muster.wire.registry.answers import SERVICES
from muster.wire.sagas import SAGAS
from muster.wire.shards.answers import KEYSPACES, MIGRATIONS, NODES
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
class Lock:
    """A lock, as a read model of tomorrow might have it."""

    service: str
    lock: str
    holder: str
    held: bool
    position: int


def fold(row: Lock | None, recorded: Recorded[Any]) -> Lock | None:
    event = recorded.event
    if isinstance(event, InstanceDeregistered):
        return None
    held = isinstance(event, InstanceDrainStarted)
    return Lock(name_of(recorded.stream), event.instance, recorded.actor, held, recorded.position)


def key_of(recorded: Recorded[Any]) -> Key:
    return name_of(recorded.stream), recorded.event.instance


def missing(key: Key) -> InstanceNotFound:
    return InstanceNotFound(f"there is no lock {key[1]}", service=key[0], instance=key[1])


READ_MODEL = ReadModel(name="locks", item=Lock, key=("service", "lock"), filters=("holder", "held"), watched=True)
LOCKS = Projection(
    name="locks",
    revision=1,
    row=Lock,
    key=("service", "lock"),
    events=frozenset((InstanceRegistered, InstanceDrainStarted, InstanceDeregistered)),
    key_of=key_of,
    fold=fold,
    served=READ_MODEL,
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

    @asynccontextmanager
    async def watch(self, query: str = "") -> AsyncIterator[Callable[[], Awaitable[tuple[str, str, Any]]]]:
        """A watch of the locks; what it gives reads the next event, as (id, event, data)."""
        sent: asyncio.Queue[Any] = asyncio.Queue()
        left = asyncio.Event()

        async def receive() -> Any:
            await left.wait()
            return {"type": "http.disconnect"}

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/watch/locks",
            "query_string": query.encode(),
            "headers": [],
        }
        serving = asyncio.create_task(self.application(scope, receive, sent.put))
        assert (await sent.get())["status"] == 200
        parser, ready = EventParser(), deque[Any]()

        async def following() -> tuple[str, str, Any]:
            while not ready:
                ready.extend(parser.feed((await sent.get())["body"]))
            id_, event, data = ready.popleft()
            return id_, event, json.loads(data)

        try:
            yield following
        finally:
            left.set()
            await serving


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
    assert await face.get("/v1/locks/orders/a") == (200, row("a", 3, held=True))


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


def row(lock: str, position: int, *, held: bool) -> dict[str, Any]:
    return {"service": "orders", "lock": lock, "holder": "ann", "held": held, "position": position}


async def test_its_rows_are_watched_from_a_snapshot_on(face: Face) -> None:
    async with face.watch() as following:
        id_, event, data = await following()
        assert (id_, event) == (data["token"], "snapshot")
        assert data["items"] == [row("a", 3, held=True), row("b", 1, held=False)]
        # In one batch: one row changes twice, one comes, one goes.
        b, c = DrainInstance(instance="b"), DeregisterInstance(instance="a")
        face.happens(envelope("4", b), register("c", "5"), envelope("6", c))
        position = face.machine.partition.cursor.position
        id_, event, data = await following()
    assert (id_, event) == (f"0:{position}", "delta")
    assert data == {
        "items": [row("b", position - 2, held=True), row("c", position - 1, held=False)],
        "gone": ["orders/a"],
    }


async def test_what_a_watcher_holds_is_what_is_listed(face: Face) -> None:
    held = Keyed(*READ_MODEL.key)
    async with face.watch() as following:
        for number in range(4):
            id_, event, data = await following()
            list(held.take(event, json.dumps(data).encode(), id_))
            _, listed = await face.get("/v1/locks")
            assert sorted(held.rows.values(), key=lambda one: one["lock"]) == listed["items"]
            assert id_ == listed["token"]
            happened = (register("x", f"x{number}"), envelope(f"y{number}", DeregisterInstance(instance="x")))
            face.happens(happened[number % 2])


async def test_a_watch_is_resumed_at_its_token_or_begins_anew(face: Face) -> None:
    token = (await face.get("/v1/locks"))[1]["token"]
    async with face.watch(f"after={token}") as following:
        face.happens(register("c", "4"))
        assert [item["lock"] for item in (await following())[2]["items"]] == ["c"]
    async with face.watch(f"after={token}") as following:
        assert [(await following())[1], (await following())[1]] == ["reset", "snapshot"]


async def test_what_touches_no_row_is_told_to_nobody(face: Face) -> None:
    async with face.watch() as following:
        await following()
        face.happens(envelope("4", SetMaintenance(instance="b")))
        face.happens(register("c", "5"))
        assert [item["lock"] for item in (await following())[2]["items"]] == ["c"]


async def test_a_row_that_an_event_could_not_be_folded_into_does_not_pass_for_the_truth(face: Face) -> None:
    face.views.parked["locks", ("orders", "a")] = Parked(7, "impossible")
    status, body = await face.get("/v1/locks/orders/a")
    assert (status, body["type"], body["position"]) == (503, "urn:muster:NotReady", 7)
    _, listed = await face.get("/v1/locks")
    assert listed["parked"] == ["orders/a"]


def test_it_stands_in_the_document(face: Face) -> None:
    told = document(face.application.routes)
    assert {"/v1/locks", "/v1/locks/{service}/{lock}", "/v1/watch/locks"} <= told["paths"].keys()
    names = {parameter["name"] for parameter in told["paths"]["/v1/locks"]["get"]["parameters"]}
    assert {"holder", "held", "consistency", "Muster-Token"} <= names
    assert told["components"]["schemas"]["LockItem"]["properties"].keys() == {
        "service",
        "lock",
        "holder",
        "held",
        "position",
    }


@pytest.mark.parametrize("model", [SERVICES, KEYSPACES, NODES, MIGRATIONS, SAGAS], ids=lambda model: model.name)
def test_what_is_published_of_a_read_model_is_what_is_served(face: Face, model: ReadModel[Any]) -> None:
    told = document(face.application.routes)
    [listed] = [route for route in face.application.routes if route.path == f"/v1/{model.name}"]
    schemas = told["components"]["schemas"]
    item = schemas[listed.answer.__name__]["properties"]["items"]["items"]["$ref"].rpartition("/")[2]
    alone = {"steps"}  # of a saga: lists leave them out
    assert schemas[item]["properties"].keys() == {one.name for one in fields(model.item)} - alone
    assert (f"/v1/watch/{model.name}" in told["paths"]) == model.watched
