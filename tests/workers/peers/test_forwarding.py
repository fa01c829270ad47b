"""What a peer says over HTTP is raised here as the peer raised it."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from muster.wire.error import MusterError, NotReady, Timeout, VersionConflict
from workers.http.exchange import Reply, problem, problem_of
from workers.peers.forwarding import Peers


async def raised_by_a_peer(reply: Reply) -> MusterError:
    """What asking a peer that answers so raises."""

    async def prove(_: web.Request) -> web.Response:
        return web.Response(body=reply.body, status=reply.status)

    application = web.Application()
    application.router.add_post("/v1/peer/prove/0", prove)
    async with TestServer(application) as server, Peers() as peers:
        with pytest.raises(MusterError) as caught:
            await peers.prove(str(server.make_url("")).rstrip("/"), 0)
    return caught.value


async def test_an_error_of_a_peer_keeps_its_facts() -> None:
    error = await raised_by_a_peer(problem_of(VersionConflict("it is at 9", actual=9)))
    assert (type(error), error.detail, error.context) == (VersionConflict, "it is at 9", {"actual": 9})


async def test_what_only_a_newer_peer_knows_is_tried_again() -> None:
    odd = problem({"name": "FluxInverted", "detail": "odd", "status": 409})
    assert type(await raised_by_a_peer(odd)) is NotReady


async def test_a_redirect_is_not_followed_with_a_command_in_hand() -> None:
    taken: list[str] = []

    async def away(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/taken")

    async def take(request: web.Request) -> web.Response:
        taken.append(request.path)
        return web.json_response({"position": 9})

    application = web.Application()
    application.router.add_post("/v1/peer/prove/0", away)
    application.router.add_post("/taken", take)
    async with TestServer(application) as server, Peers() as peers:
        with pytest.raises(Timeout, match="no answer"):
            await peers.prove(str(server.make_url("")).rstrip("/"), 0)
    assert taken == []
