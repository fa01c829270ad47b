"""Run a copy of users, registered with muster while it runs.

    python -m examples.users --port 8081 --muster http://127.0.0.1:8740 [--store users.sqlite]

Without --muster it only serves, and may be registered from outside:

    muster register users users-1 --address 127.0.0.1 --port 8081 --check http=http://127.0.0.1:8081/health
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from examples.hosting import hosted, options, until_stopped
from examples.users.service import Store, application
from muster import Client, HttpCheck


async def serve(chosen: argparse.Namespace) -> None:
    """Listen first, then register; leave the registry first, then stop listening."""
    app = application(Store(chosen.store), chosen.instance)
    async with hosted(app, chosen.host, chosen.port) as port, registered(chosen, port):
        await until_stopped()


@asynccontextmanager
async def registered(chosen: argparse.Namespace, port: int) -> AsyncIterator[None]:
    """Registered while the block runs, if there is a controller to register with."""
    if chosen.muster is None:
        yield
        return
    check = HttpCheck(
        url=f"http://{chosen.host}:{port}/health",
        interval_seconds=chosen.check_interval,
        timeout_seconds=1.0,
    )
    async with (
        Client(chosen.muster, actor=chosen.instance) as client,
        # The lease: should this host vanish, the entry does too, 30 s after the last heartbeat.
        client.registered("users", chosen.instance, chosen.host, port, lease_seconds=30.0, checks=[check]),
    ):
        yield


if __name__ == "__main__":
    parser = options("users", __doc__)
    parser.add_argument("--store", default=":memory:", help="a SQLite file, which copies may share")
    parser.add_argument("--check-interval", type=float, default=5.0, metavar="SECONDS")
    asyncio.run(serve(parser.parse_args()))
