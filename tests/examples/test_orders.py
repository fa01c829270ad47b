"""The service orders: it asks whoever offers users, and passes over who does not answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, unused_port

from examples.orders.service import ATTEMPT_SECONDS, Users, application
from examples.users.service import Store
from examples.users.service import application as users_application
from muster import Balancer, Client, balanced
from tests.muster.controller import controller


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with controller(tmp_path / "data") as url, Client(url) as client:
        yield client


@asynccontextmanager
async def orders_of(client: Client) -> AsyncIterator[TestClient]:
    async with (
        Balancer("users", client, timeout_seconds=ATTEMPT_SECONDS) as users,
        aiohttp.ClientSession(middlewares=(balanced(users),)) as session,
        TestClient(TestServer(application(Users(session)))) as orders,
    ):
        yield orders


async def test_an_order_names_a_user_found_at_an_instance_that_answers(client: Client) -> None:
    async with TestServer(users_application(Store(":memory:"), "users-1")) as server:
        await client.register("users", "users-0", "127.0.0.1", unused_port())
        await client.register("users", "users-1", "127.0.0.1", server.port or 0)
        async with orders_of(client) as orders:
            first = await (await orders.post("/orders", json={"item": "tea", "name": "Ada"})).json()
            second = await (await orders.post("/orders", json={"item": "tea", "user_id": first["user"]["id"]})).json()
    assert (first["asked"], second["asked"], second["user"]["name"]) == ("users-1", "users-1", "Ada")


async def test_an_order_of_an_unknown_user_is_refused(client: Client) -> None:
    async with TestServer(users_application(Store(":memory:"), "users-1")) as server:
        await client.register("users", "users-1", "127.0.0.1", server.port or 0)
        async with orders_of(client) as orders:
            assert (await orders.post("/orders", json={"item": "tea", "user_id": 7})).status == 422


async def test_an_instance_that_hangs_is_left_for_another_one_in_time(client: Client) -> None:
    asked = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    hanging = web.Application()
    hanging.router.add_get("/users/1", hang)
    # So that it is asked at all.
    await client.traffic.set("users", policy="round_robin")
    async with (
        TestServer(users_application(Store(":memory:"), "users-1")) as server,
        TestServer(hanging) as stuck,
        orders_of(client) as orders,
    ):
        await client.register("users", "users-1", "127.0.0.1", server.port or 0)
        async with aiohttp.ClientSession() as session:
            await session.post(server.make_url("/users"), json={"name": "Ada"})
        await client.register("users", "users-0", "127.0.0.1", stuck.port or 0)
        async with asyncio.timeout(20):
            while not asked.is_set():
                assert (await orders.post("/orders", json={"item": "tea", "user_id": 1})).status == 201


async def test_while_users_fails_an_order_is_not_to_blame(client: Client, tmp_path: Path) -> None:
    # A folder is no store.
    async with TestServer(users_application(Store(str(tmp_path)), "users-1")) as server:
        await client.register("users", "users-1", "127.0.0.1", server.port or 0)
        async with orders_of(client) as orders:
            assert (await orders.post("/orders", json={"item": "tea", "user_id": 7})).status == 503


async def test_what_is_no_order_is_refused(client: Client) -> None:
    async with orders_of(client) as orders:
        for body in (b"tea", b"[]", b'{"item": "tea"}'):
            assert (await orders.post("/orders", data=body)).status == 422


async def test_without_users_an_order_waits_for_better_times(client: Client) -> None:
    async with orders_of(client) as orders:
        assert (await orders.post("/orders", json={"item": "tea", "user_id": 7})).status == 503
