"""The service users: created, fetched, refused, and shared by copies over one store."""

from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from examples.users.service import Store, application


async def test_a_created_user_can_be_fetched() -> None:
    async with TestClient(TestServer(application(Store(":memory:"), "users-1"))) as users:
        created = await (await users.post("/users", json={"name": "Ada"})).json()
        fetched = await (await users.get(f"/users/{created['id']}")).json()
    assert fetched == created == {"id": 1, "name": "Ada", "served_by": "users-1"}


async def test_copies_over_one_store_know_the_same_users(tmp_path: Path) -> None:
    path = str(tmp_path / "users.sqlite")
    async with (
        TestClient(TestServer(application(Store(path), "users-1"))) as one,
        TestClient(TestServer(application(Store(path), "users-2"))) as other,
    ):
        created = await (await one.post("/users", json={"name": "Ada"})).json()
        fetched = await (await other.get(f"/users/{created['id']}")).json()
    assert fetched == {**created, "served_by": "users-2"}


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": 7}, []])
async def test_a_user_without_a_name_is_refused(body: object) -> None:
    async with TestClient(TestServer(application(Store(":memory:"), "users-1"))) as users:
        assert (await users.post("/users", json=body)).status == 422


async def test_an_unknown_user_is_not_found() -> None:
    async with TestClient(TestServer(application(Store(":memory:"), "users-1"))) as users:
        assert (await users.get("/users/9")).status == 404


async def test_health_asks_the_store(tmp_path: Path) -> None:
    path = tmp_path / "users.sqlite"
    async with TestClient(TestServer(application(Store(str(path)), "users-1"))) as users:
        assert (await users.get("/health")).status == 200
        path.write_bytes(b"no database at all")
        assert (await users.get("/health")).status == 500
