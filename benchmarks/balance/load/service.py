"""An instance as a user would write it: an aiohttp application that answers at once.

    python -m benchmarks.balance.load.service

Prints its port when it listens.
"""

import asyncio

from aiohttp import web


async def user(_: web.Request) -> web.Response:
    """Somebody."""
    return web.json_response({"user": "1", "name": "Ada"})


async def main() -> None:
    """Serve until killed."""
    application = web.Application()
    application.router.add_get("/users/{user}", user)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
