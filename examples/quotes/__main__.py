"""quotes: says the price of something. Its copies can be made slow, and busy.

    python -m examples.quotes --port 8085 --muster http://127.0.0.1:8740 --takes 0.04 --at-once 2

GET /quotes/tea   200 {"item": "tea", "price": 3, "said_by": "quotes-1"}, after `--takes` seconds; `--at-once` are worked on at a
                  time, as many again may wait, and the others are turned away with 503
"""

import argparse
import asyncio

from aiohttp import web

from examples.hosting import hosted, options, until_stopped
from muster import Client, HttpCheck


def application(instance: str, takes_seconds: float, at_once: int) -> web.Application:
    """The service's routes."""
    routes, turns = web.RouteTableDef(), asyncio.Semaphore(at_once)
    inside = 0

    @routes.get("/quotes/{item}")
    async def quote(request: web.Request) -> web.Response:
        nonlocal inside
        if inside >= 2 * at_once:
            raise web.HTTPServiceUnavailable(text=f"{instance} has {inside} calls already")
        inside += 1
        try:
            async with turns:
                await asyncio.sleep(takes_seconds)
        finally:
            inside -= 1
        item = request.match_info["item"]
        return web.json_response({"item": item, "price": len(item), "said_by": instance})

    @routes.get("/health")
    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.add_routes(routes)
    return app


async def serve(chosen: argparse.Namespace) -> None:
    """Listen, register, leave."""
    app = application(chosen.instance, chosen.takes, chosen.at_once)
    async with hosted(app, chosen.host, chosen.port) as port, Client(chosen.muster, actor=chosen.instance) as client:
        check = HttpCheck(url=f"http://{chosen.host}:{port}/health", interval_seconds=chosen.check_interval)
        async with client.registered("quotes", chosen.instance, chosen.host, port, lease_seconds=30, checks=[check]):
            await until_stopped()


if __name__ == "__main__":
    parser = options("quotes", __doc__)
    parser.set_defaults(muster="http://127.0.0.1:8740")
    parser.add_argument("--takes", type=float, default=0.01, metavar="SECONDS", help="how long an answer takes")
    parser.add_argument("--at-once", type=int, default=8, help="answers that are worked on at a time")
    parser.add_argument("--check-interval", type=float, default=5.0, metavar="SECONDS")
    asyncio.run(serve(parser.parse_args()))
