"""What clients saw goes to whoever writes the service, and is lost rather than waited for."""

import orjson
from aiohttp import web

from muster.wire.route import partition_of
from muster.wire.stream import service_stream
from muster.wire.telemetry.observations import Observation, Observations, document_of
from tests.workers.peers.test_forwarding import peer, proven
from workers.http.exchange import Reply, problem
from workers.peers.forwarding import OBSERVE
from workers.peers.members import Member, Members
from workers.peers.observations import pass_on


def saw(service: str) -> Observations:
    return Observations("web-1", service, 5.0, [Observation("a", 0, 10, 0, 0)], "10.0.0.9")


def shared(theirs: Member) -> tuple[Members, Observations, Observations]:
    """Two partitions, each with a writer of its own; what is to stay here, and what is to go there."""
    # At the same address, so that what should have stayed here would be seen to arrive there.
    members = Members(Member("ours", theirs.url))
    for one in (members.self_, theirs):
        members.heard(one, 100.0, ready=True)
    partitions = 64
    messages = [saw(f"s{number}") for number in range(200)]
    owners = {
        message.service: members.owner(partition_of(service_stream(message.service), partitions))
        for message in messages
    }
    ours = next(message for message in messages if owners[message.service] == members.self_)
    return members, ours, next(message for message in messages if owners[message.service] == theirs)


async def test_it_goes_to_whoever_writes_the_service_with_the_address_that_was_seen() -> None:
    taken: list[object] = []

    async def observe(request: web.Request) -> web.Response:
        taken.extend(orjson.loads(await request.read()))
        return proven(request, Reply(b"{}"))

    async with peer(**{OBSERVE.removeprefix("/"): observe}) as (member, peers):
        members, ours, theirs = shared(member)
        await pass_on([ours, theirs], members, peers, 64)
    assert taken == [document_of(theirs)]
    assert document_of(theirs)["host"] == "10.0.0.9"


async def test_a_peer_that_refuses_it_or_knows_no_such_route_ends_no_request() -> None:
    async def observe(request: web.Request) -> web.Response:
        return proven(request, problem({"name": "NotReady", "status": 503, "detail": "on its way out"}))

    async with peer(**{OBSERVE.removeprefix("/"): observe}) as (member, peers):
        members, _, theirs = shared(member)
        await pass_on([theirs], members, peers, 64)
    async with peer() as (member, peers):
        members, _, theirs = shared(member)
        await pass_on([theirs], members, peers, 64)
