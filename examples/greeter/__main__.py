"""greeter: says hello. The smallest service here, with the two other kinds of check.

    python -m examples.greeter --port 8083 --muster http://127.0.0.1:8740

tcp   the controller connects to the port
ttl   the service says itself that it is alive: the registration's heartbeats, every third of the lease, are that
"""

import argparse
import asyncio

from aiohttp import web

from examples.hosting import hosted, options, until_stopped
from muster import Client, TcpCheck, TtlCheck


async def hello(request: web.Request) -> web.Response:
    """`GET /hello/Ada`: Hello, Ada!"""
    return web.Response(text=f"Hello, {request.match_info['name']}!")


async def serve(chosen: argparse.Namespace) -> None:
    """Listen, register, leave."""
    app = web.Application()
    app.router.add_get("/hello/{name}", hello)
    async with hosted(app, chosen.host, chosen.port) as port, Client(chosen.muster, actor=chosen.instance) as client:
        checks = (
            TcpCheck(host=chosen.host, port=port, interval_seconds=chosen.check_interval),
            TtlCheck(ttl_seconds=chosen.lease),
        )
        async with client.registered(
            "greeter", chosen.instance, chosen.host, port, lease_seconds=chosen.lease, tags=["tiny"], checks=checks
        ):
            await until_stopped()


if __name__ == "__main__":
    parser = options("greeter", __doc__)
    parser.set_defaults(muster="http://127.0.0.1:8740")
    parser.add_argument("--check-interval", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--lease", type=float, default=30.0, metavar="SECONDS")
    asyncio.run(serve(parser.parse_args()))
