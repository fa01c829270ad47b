"""Epochs at the door of an ASGI application, as its callers and the process behind it see them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import uvicorn

from muster import Guard, GuardMiddleware, InvalidCommand, StaleEpoch
from muster.wire.problem import error_from


class Application:
    """An application that answers 200, and counts what reaches it."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.reached.append(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    return Guard(tmp_path / "epoch")


@pytest.fixture
def application() -> Application:
    return Application()


async def asked(door: GuardMiddleware, *epochs: bytes, type_: str = "http") -> tuple[int, dict[str, Any]]:
    """The status of the answer to a request with these headers, and the problem, if it is one."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"here"), *((b"muster-epoch", epoch) for epoch in epochs)]
    await door({"type": type_, "headers": headers}, None, send)
    start, body = sent
    if start["status"] == 200:
        return 200, {}
    assert (b"content-type", b"application/problem+json") in start["headers"]
    assert (b"content-length", b"%d" % len(body["body"])) in start["headers"]
    return start["status"], orjson.loads(body["body"])


async def test_a_lower_epoch_is_refused_with_the_newer_one(guard: Guard, application: Application) -> None:
    door = GuardMiddleware(application, guard)
    assert await asked(door, b"7") == (200, {})
    assert await asked(door, b"7") == (200, {})
    status, problem = await asked(door, b"6")
    assert status == problem["status"] == 409
    assert (problem["type"], problem["epoch"]) == ("urn:muster:StaleEpoch", 7)
    assert application.reached == ["http", "http"]


async def test_a_higher_epoch_is_kept_before_it_is_served(guard: Guard, application: Application) -> None:
    assert await asked(GuardMiddleware(application, guard), b"8") == (200, {})
    assert guard.epoch == 8


async def test_a_newer_epoch_ends_the_process_and_is_not_served_by_it(guard: Guard, application: Application) -> None:
    newer: list[int] = []
    guard.check(7)
    door = GuardMiddleware(application, guard, epoch=7, on_newer=newer.append)
    assert await asked(door, b"7") == (200, {})
    for _ in range(2):
        status, problem = await asked(door, b"8")
        assert (status, problem["type"], problem["epoch"]) == (409, "urn:muster:StaleEpoch", 8)
    assert newer == [8]
    # Another one leads: who still means this one is refused as well.
    status, problem = await asked(door, b"7")
    assert (status, problem["epoch"]) == (409, 8)
    assert application.reached == ["http"]


async def test_a_process_that_is_promoted_where_it_is_serves_its_new_epoch(
    guard: Guard, application: Application
) -> None:
    newer: list[int] = []
    door = GuardMiddleware(application, guard, epoch=7, on_newer=newer.append)
    door.epoch = 9
    assert (await asked(door, b"9"))[0] == 200
    assert (await asked(door, b"8"))[1]["epoch"] == 9
    assert newer == []


async def test_an_older_epoch_than_this_primarys_is_refused_before_any_other_was_seen(
    guard: Guard, application: Application
) -> None:
    status, problem = await asked(GuardMiddleware(application, guard, epoch=7), b"6")
    assert (status, problem["epoch"], application.reached) == (409, 7, [])


async def test_a_newer_epoch_is_told_also_when_it_cannot_be_kept(
    guard: Guard, application: Application, tmp_path: Path
) -> None:
    newer: list[int] = []
    (tmp_path / "epoch.new").mkdir()
    status, problem = await asked(GuardMiddleware(application, guard, epoch=7, on_newer=newer.append), b"8")
    assert (status, problem["type"]) == (503, "urn:muster:WriteFailed")
    assert (newer, application.reached) == ([8], [])


@pytest.mark.parametrize(
    "epochs", [(b"",), (b"x",), (b"-1",), (b"0",), (b"7.0",), (b" 7",), (b"7_0",), (b"9" * 19,), (b"7", b"8")]
)
async def test_what_is_no_epoch_is_a_bad_request(
    guard: Guard, application: Application, epochs: tuple[bytes, ...]
) -> None:
    newer: list[int] = []
    status, problem = await asked(GuardMiddleware(application, guard, epoch=7, on_newer=newer.append), *epochs)
    assert status == problem["status"] == 400
    assert problem["type"] == "urn:muster:InvalidCommand"
    assert (guard.epoch, newer, application.reached) == (0, [], [])


async def test_what_has_no_epoch_and_what_is_no_request_passes_through(guard: Guard, application: Application) -> None:
    guard.check(7)
    door = GuardMiddleware(application, guard)
    assert await asked(door) == (200, {})
    await asked(door, b"6", type_="websocket")
    await asked(door, b"6", type_="lifespan")
    assert application.reached == ["http", "websocket", "lifespan"]


def test_the_callback_needs_to_know_which_epoch_is_this_primarys(guard: Guard, application: Application) -> None:
    with pytest.raises(InvalidCommand):
        GuardMiddleware(application, guard, on_newer=print)


@asynccontextmanager
async def served(door: GuardMiddleware) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(door, port=0, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(60):
        while not server.started:  # noqa: ASYNC110 uvicorn sets no event
            await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


async def test_a_caller_over_http_learns_the_newer_epoch_and_the_application_may_hold_the_guard(guard: Guard) -> None:
    async def write(scope: dict[str, Any], receive: Any, send: Any) -> None:
        with guard.holding(int(dict(scope["headers"])[b"muster-epoch"])):
            await Application()(scope, receive, send)

    async with served(GuardMiddleware(write, guard)) as url, aiohttp.ClientSession() as session:
        async with session.post(url, headers={"Muster-Epoch": "7"}) as response:
            assert (response.status, await response.text()) == (200, "done")
        async with session.post(url, headers={"Muster-Epoch": "6"}) as response:
            error = error_from(await response.json(content_type="application/problem+json"))
    assert isinstance(error, StaleEpoch)
    assert error.context == {"epoch": 7}
