"""What a controller answers to the lists of commands that a peer passes on."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson
import pytest
from eventsourcing.popo import POPOApplicationRecorder

from infra.log.codec import CloudEventMapper
from infra.log.recorder import RecorderLog
from muster.wire.route import partition_of
from muster.wire.telemetry.observations import Observation, Observations, document_of
from tests.workers.peers.test_forwarding import OURS, THEIRS
from workers.http.controller.peers import routes
from workers.http.exchange import Reply, Request
from workers.machine.partition import Partition
from workers.peers.credentials import PROOF_HEADER
from workers.peers.forwarding import EXECUTE_ALL, HEAR, OBSERVE
from workers.views.views import Views
from workers.writer.writer import Writer

Writers = Mapping[int, Writer]
TAKEN: list[Observations] = []
HERE, THERE = (
    next(f"group/g{number}" for number in range(99) if partition_of(f"group/g{number}", 2) == partition)
    for partition in (0, 1)
)


def command(id_: str, stream: str = HERE, type_name: str = "muster.group.create.v1", **data: Any) -> dict[str, Any]:
    return {"id": id_, "type": type_name, "stream": stream, "data": data}


@pytest.fixture
async def writers() -> AsyncIterator[Writers]:
    made = {
        number: Writer(
            RecorderLog(POPOApplicationRecorder(), number),
            Partition(number, CloudEventMapper(), partitions=2),
            Views([number]),
            name="theirs",
        )
        for number in (0, 1)
    }
    running = [asyncio.create_task(writer.run()) for writer in made.values()]
    yield made
    for task in running:
        task.cancel()
    await asyncio.wait(running)


def _take(messages: Sequence[Observations]) -> int:
    TAKEN.extend(messages)
    return len(messages)


async def asked(writers: Writers, body: object, path: str = EXECUTE_ALL) -> Reply:
    """What the controller answers to this body of a peer."""
    content = orjson.dumps(body)
    [route] = [found for found in routes(writers, THEIRS, _take) if found.path == path]
    proof = OURS.request("theirs", "POST", path, content)
    scope = {
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(PROOF_HEADER.lower().encode(), proof.encode()), (b"content-length", b"%d" % len(content))],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content}

    async def send(_: Any) -> None:
        raise AssertionError("the reply is what is sent")

    reply = await route.handler(Request(scope, receive, send))
    assert reply is not None
    return reply


async def test_each_of_a_list_is_answered_by_itself(writers: Writers) -> None:
    commands = [
        command("1", members=[{"member": "a"}]),
        command("2", type_name="muster.group.renew.v1", member="a", incarnation=5),
        command("3", type_name="muster.group.of_a_newer_controller.v1"),
        command("4", type_name="muster.group.pause.v1"),
    ]
    reply = await asked(writers, commands)
    assert reply.status == 200
    told = orjson.loads(reply.body)
    answers = [one["answer"]["status"] if "answer" in one else one["error"]["name"] for one in told]
    assert answers == ["accepted", "refused", "InvalidCommand", "accepted"]
    assert told[1]["answer"]["error"]["name"] == "StaleIncarnation"


async def test_a_list_is_of_one_partition(writers: Writers) -> None:
    reply = await asked(writers, [command("1"), command("2", THERE)])
    assert reply.status == 422
    assert not writers[0].knows("1")
    assert not writers[1].knows("2")


@pytest.mark.parametrize("body", [{}, None, "text", 5])
async def test_what_is_no_list_is_refused(writers: Writers, body: object) -> None:
    assert (await asked(writers, body)).status == 422


async def test_an_empty_list_is_answered_by_one(writers: Writers) -> None:
    assert orjson.loads((await asked(writers, [])).body) == []


HERE_TOO, THERE_TOO = (
    next(f"s{number}" for number in range(99) if partition_of(f"service/s{number}", 2) == partition)
    for partition in (0, 1)
)


def message(service: str, *items: list[Any]) -> dict[str, Any]:
    return {"agent": "host-7", "service": service, "items": list(items)}


async def test_heartbeats_are_heard_and_who_is_refused_is_told(writers: Writers) -> None:
    reply = await asked(writers, [message(HERE_TOO, ["a", 3]), message(HERE_TOO, ["b", 3, 1.5])], HEAR)
    assert reply.status == 200
    told = orjson.loads(reply.body)
    assert [[(name, error["name"]) for name, error in each] for each in told] == [
        [("a", "ServiceNotFound")],
        [("b", "ServiceNotFound")],
    ]


@pytest.mark.parametrize("services", [[], [HERE_TOO, THERE_TOO]])
async def test_heartbeats_are_of_one_partition(writers: Writers, services: list[str]) -> None:
    reply = await asked(writers, [message(service, ["a", 3]) for service in services], HEAR)
    assert reply.status == 422


async def test_what_clients_saw_is_taken_with_the_address_that_the_peer_has_seen(writers: Writers) -> None:
    TAKEN.clear()
    message = Observations("web-1", "orders", 5.0, [Observation("a", 0, 10, 0, 0)], "10.0.0.9")
    reply = await asked(writers, [document_of(message)], OBSERVE)
    assert (reply.status, TAKEN) == (200, [message])
