"""orders: takes orders of users, whom it looks up at the service `users`.

POST /orders {"item": "tea", "user_id": 1}   201 {"id": 1, "item": "tea", "user": {…}, "asked": "users-1"}
POST /orders {"item": "tea", "name": "Ada"}  the same, for a user that is created first
GET  /health                                 200
"""

from itertools import count
from typing import Any, Final

import aiohttp
from aiohttp import web

from muster import NoAvailableInstances, ResourceExhausted

_TIMEOUT: Final = aiohttp.ClientTimeout(total=4.0)
ATTEMPT_SECONDS: Final = 1.8
"""What the balancer gives one instance: of the time above enough is left to ask another one, where the first one hangs."""


class Users:
    """The service `users`. The session's calls are balanced: `http://users` is whichever of its instances answers."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def fetch(self, user_id: int) -> dict[str, Any]:
        """The user, with who has served it. A GET is repeated at another instance when one fails."""
        return await self._ask("GET", f"/users/{user_id}", None)

    async def create(self, name: str) -> dict[str, Any]:
        """The new user. A POST goes to another instance only if it has certainly not arrived."""
        return await self._ask("POST", "/users", {"name": name})

    async def _ask(self, method: str, path: str, body: object) -> dict[str, Any]:
        try:
            async with self._session.request(method, f"http://users{path}", json=body, timeout=_TIMEOUT) as answer:
                # Whatever is wrong at users is no fault of the order.
                if answer.status >= 500:
                    answer.raise_for_status()
                if answer.status >= 400:
                    raise web.HTTPUnprocessableEntity(text=await answer.text())
                found: dict[str, Any] = await answer.json()
                return found
        except (aiohttp.ClientError, TimeoutError, NoAvailableInstances, ResourceExhausted) as error:
            raise web.HTTPServiceUnavailable(text=f"no instance of users answers: {error}") from error


def application(users: Users) -> web.Application:
    """The service's routes."""
    routes, numbers = web.RouteTableDef(), count(1)

    @routes.post("/orders")
    async def order(request: web.Request) -> web.Response:
        try:
            asked = await request.json()
        except ValueError:
            asked = None
        match asked:
            case {"item": str(item), "user_id": int(user_id)}:
                user = await users.fetch(user_id)
            case {"item": str(item), "name": str(name)}:
                user = await users.create(name)
            case _:
                raise web.HTTPUnprocessableEntity(text="an order has an item, and a user_id or a name")
        placed = {"id": next(numbers), "item": item, "user": user, "asked": user["served_by"]}
        return web.json_response(placed, status=201)

    @routes.get("/health")
    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.add_routes(routes)
    return app
