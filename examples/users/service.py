"""users: users can be created and fetched.

POST /users {"name": "Ada"}   201 {"id": 1, "name": "Ada", "served_by": "users-1"}
GET  /users/1                 200, or 404
GET  /health                  200 when the store answers: what the controller's check asks
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")


class Store:
    """Users in a SQLite file, which several copies may share. SQLite is synchronous: one thread of its own runs it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "users")
        self._connection: sqlite3.Connection | None = None

    async def create(self, name: str) -> int:
        """The new user's id."""
        return await self._run(lambda db: _inserted(db, name))

    async def find(self, user_id: int) -> str | None:
        """The user's name, if there is such a user."""
        found = await self._run(lambda db: db.execute("SELECT name FROM users WHERE id = ?", (user_id,)).fetchone())
        return found[0] if found else None

    async def ping(self) -> None:
        """Raises sqlite3.Error when the store cannot be read."""
        await self._run(lambda db: db.execute("SELECT 1 FROM users LIMIT 1").fetchone())

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._opened()))

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, timeout=5)
            self._connection.execute("CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        return self._connection


def _inserted(db: sqlite3.Connection, name: str) -> int:
    with db:
        row: int | None = db.execute("INSERT INTO users (name) VALUES (?)", (name,)).lastrowid
    assert row is not None, "an insert without a row"
    return row


def application(store: Store, instance: str) -> web.Application:
    """The service's routes over the store; `instance` signs the answers."""
    routes = web.RouteTableDef()

    @routes.post("/users")
    async def create(request: web.Request) -> web.Response:
        body: Any = await request.json()
        name = body.get("name") if isinstance(body, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise web.HTTPUnprocessableEntity(text="name: must be a text that is not empty")
        return answered(await store.create(name), name, status=201)

    @routes.get(r"/users/{id:\d{1,18}}")
    async def fetch(request: web.Request) -> web.Response:
        user_id = int(request.match_info["id"])
        name = await store.find(user_id)
        if name is None:
            raise web.HTTPNotFound(text=f"there is no user {user_id}")
        return answered(user_id, name)

    @routes.get("/health")
    async def health(_: web.Request) -> web.Response:
        await store.ping()
        return web.json_response({"status": "ok"})

    def answered(user_id: int, name: str, status: int = 200) -> web.Response:
        return web.json_response({"id": user_id, "name": name, "served_by": instance}, status=status)

    app = web.Application()
    app.add_routes(routes)
    return app
