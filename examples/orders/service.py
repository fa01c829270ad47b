"""orders: takes orders of users, whom it looks up at the service `users`.

POST /orders {"item": "tea", "user_id": 1}   201 {"id": 1, "item": "tea", "user": {…}, "asked": "users-1"}
POST /orders {"item": "tea", "name": "Ada"}  the same, for a user that is created first
GET  /health                                 200
"""

from itertools import count
from typing import Any, Final

import aiohttp
from aiohttp import web

from examples.orders.directory import Directory

_TIMEOUT: Final = aiohttp.ClientTimeout(total=2.0)


class Users:
    """The service `users`, wherever its instances are."""

    def __init__(self, directory: Directory, session: aiohttp.ClientSession) -> None:
        self._directory = directory
        self._session = session

    async def fetch(self, user_id: int) -> tuple[str, dict[str, Any]]:
        """Who answered, and the user. An instance that does not answer is passed over: asking again does no harm."""
        return await self._ask("GET", f"/users/{user_id}", None, passed_over=(aiohttp.ClientError, TimeoutError))

    async def create(self, name: str) -> tuple[str, dict[str, Any]]:
        """Who answered, and the new user. Only an instance that has certainly not heard us is passed over."""
        return await self._ask("POST", "/users", {"name": name}, passed_over=(aiohttp.ClientConnectorError,))

    async def _ask(
        self, method: str, path: str, body: object, passed_over: tuple[type[Exception], ...]
    ) -> tuple[str, dict[str, Any]]:
        for instance in self._directory.choices():
            url = f"http://{instance.endpoint}{path}"
            try:
                async with self._session.request(method, url, json=body, timeout=_TIMEOUT) as answer:
                    if answer.status >= 400:
                        raise web.HTTPUnprocessableEntity(text=await answer.text())
                    return instance.instance, await answer.json()
            except passed_over:
                continue
        raise web.HTTPServiceUnavailable(text="no instance of users answers")


def application(users: Users) -> web.Application:
    """The service's routes."""
    routes, numbers = web.RouteTableDef(), count(1)

    @routes.post("/orders")
    async def order(request: web.Request) -> web.Response:
        match await request.json():
            case {"item": str(item), "user_id": int(user_id)}:
                asked, user = await users.fetch(user_id)
            case {"item": str(item), "name": str(name)}:
                asked, user = await users.create(name)
            case _:
                raise web.HTTPUnprocessableEntity(text="an order has an item, and a user_id or a name")
        return web.json_response({"id": next(numbers), "item": item, "user": user, "asked": asked}, status=201)

    @routes.get("/health")
    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.add_routes(routes)
    return app
