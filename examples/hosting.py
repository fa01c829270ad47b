"""What the example services share besides muster: options, a listening application, and waiting for SIGTERM."""

import argparse
import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


def options(service: str, text: str | None) -> argparse.ArgumentParser:
    """`--host`, `--port`, `--instance` and `--muster`; a service adds its own."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--instance", default=f"{service}-{secrets.token_hex(3)}", help="this copy's name")
    parser.add_argument("--muster", metavar="URL", help="the controller to register with")
    return parser


@asynccontextmanager
async def hosted(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """The application, listening while the block runs; gives the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound: int = runner.addresses[0][1]
        print(f"listening on http://{host}:{bound}", flush=True)
        yield bound
    finally:
        await runner.cleanup()


async def until_stopped() -> None:
    """Returns at SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
