"""Run a copy of orders: registered with muster, and finding users there.

python -m examples.orders --port 8082 --muster http://127.0.0.1:8740
"""

import argparse
import asyncio

import aiohttp

from examples.hosting import hosted, options, until_stopped
from examples.orders.directory import Directory
from examples.orders.service import Users, application
from muster import Client, HttpCheck


async def serve(chosen: argparse.Namespace) -> None:
    """Know where users is, listen, register."""
    directory = Directory("users")
    async with Client(chosen.muster, actor=chosen.instance) as client, aiohttp.ClientSession() as session:
        following = asyncio.create_task(directory.follow(client))
        try:
            await directory.known.wait()
            async with hosted(application(Users(directory, session)), chosen.host, chosen.port) as port:
                check = HttpCheck(url=f"http://{chosen.host}:{port}/health", interval_seconds=chosen.check_interval)
                async with client.registered("orders", chosen.instance, chosen.host, port, checks=[check]):
                    await until_stopped()
        finally:
            following.cancel()


if __name__ == "__main__":
    parser = options("orders", __doc__)
    parser.set_defaults(muster="http://127.0.0.1:8740")
    parser.add_argument("--check-interval", type=float, default=5.0, metavar="SECONDS")
    asyncio.run(serve(parser.parse_args()))
