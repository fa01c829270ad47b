"""The service orders: it asks whoever offers users, and passes over who does not answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
from aiohttp.test_utils import TestClient, TestServer, unused_port

from examples.orders.directory import Directory
from examples.orders.service import Users, application
from examples.users.service import Store
from examples.users.service import application as users_application
from muster import Appeared, Changed, Instance, Removed, Snapshot


def instance(name: str, port: int, *, discoverable: bool = True) -> Instance:
    now = datetime.now(UTC)
    return Instance(
        service="users",
        instance=name,
        address="127.0.0.1",
        port=port,
        health="healthy" if discoverable else "unhealthy",
        discoverable=discoverable,
        incarnation=0,
        version=0,
        position=0,
        registered_at=now,
        health_since=now,
    )


class ScriptedWatch:
    """A client whose watch tells the given changes."""

    def __init__(self, *changes: object) -> None:
        self._changes = changes

    async def watch(self, _: str) -> AsyncIterator[object]:
        for change in self._changes:
            yield change


async def directory_after(*changes: object) -> Directory:
    directory = Directory("users")
    await directory.follow(ScriptedWatch(*changes))  # type: ignore[arg-type]
    return directory


@asynccontextmanager
async def orders_over(directory: Directory) -> AsyncIterator[TestClient]:
    async with (
        aiohttp.ClientSession() as session,
        TestClient(TestServer(application(Users(directory, session)))) as orders,
    ):
        yield orders


async def test_the_directory_offers_what_the_watch_has_told() -> None:
    one, two, three = (instance(f"users-{number}", number) for number in (1, 2, 3))
    ill = instance("users-2", 2, discoverable=False)
    directory = await directory_after(
        Snapshot((one, two), ""), Appeared(three, ""), Changed(ill, two, ""), Removed(three, None, "")
    )
    assert directory.choices() == [one]


async def test_the_directory_takes_turns() -> None:
    one, two = (instance(f"users-{number}", number) for number in (1, 2))
    directory = await directory_after(Snapshot((one, two), ""))
    assert [directory.choices()[0] for _ in range(4)] == [one, two, one, two]


async def test_an_order_names_a_user_found_at_an_instance_that_answers() -> None:
    async with TestServer(users_application(Store(":memory:"), "users-1")) as server:
        gone = instance("users-0", unused_port())
        directory = await directory_after(Snapshot((gone, instance("users-1", server.port or 0)), ""))
        async with orders_over(directory) as orders:
            first = await (await orders.post("/orders", json={"item": "tea", "name": "Ada"})).json()
            second = await (await orders.post("/orders", json={"item": "tea", "user_id": first["user"]["id"]})).json()
    assert (first["asked"], second["asked"], second["user"]["name"]) == ("users-1", "users-1", "Ada")


async def test_an_order_of_an_unknown_user_is_refused() -> None:
    async with TestServer(users_application(Store(":memory:"), "users-1")) as server:
        directory = await directory_after(Snapshot((instance("users-1", server.port or 0),), ""))
        async with orders_over(directory) as orders:
            assert (await orders.post("/orders", json={"item": "tea", "user_id": 7})).status == 422


async def test_without_users_an_order_waits_for_better_times() -> None:
    async with orders_over(await directory_after(Snapshot((), ""))) as orders:
        assert (await orders.post("/orders", json={"item": "tea", "user_id": 7})).status == 503
