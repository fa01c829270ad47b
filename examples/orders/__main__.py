"""Run a copy of orders: registered with muster, and finding users there.

python -m examples.orders --port 8082 --muster http://127.0.0.1:8740
"""

import argparse
import asyncio

import aiohttp

from examples.hosting import hosted, options, until_stopped
from examples.orders.service import ATTEMPT_SECONDS, Users, application
from muster import Balancer, Client, HttpCheck, balanced


async def serve(chosen: argparse.Namespace) -> None:
    """Know where users is, listen, register."""
    async with (
        Client(chosen.muster, actor=chosen.instance) as client,
        Balancer("users", client, timeout_seconds=ATTEMPT_SECONDS) as users,
        aiohttp.ClientSession(middlewares=(balanced(users),)) as session,
        hosted(application(Users(session)), chosen.host, chosen.port) as port,
    ):
        check = HttpCheck(url=f"http://{chosen.host}:{port}/health", interval_seconds=chosen.check_interval)
        async with client.registered("orders", chosen.instance, chosen.host, port, checks=[check]):
            await until_stopped()


if __name__ == "__main__":
    parser = options("orders", __doc__)
    parser.set_defaults(muster="http://127.0.0.1:8740")
    parser.add_argument("--check-interval", type=float, default=5.0, metavar="SECONDS")
    asyncio.run(serve(parser.parse_args()))
