"""What a host's checks have found out, when its files change."""

import asyncio
from collections.abc import Callable

from tests.muster.controller import free_port
from tests.workers.host.test_host import listening, tcp, wanted
from workers.host.checks import LocalChecks, LocalHealth

KEY = ("orders", "a")


async def told(changed: asyncio.Event, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            changed.clear()
            await changed.wait()


def status(checks: LocalChecks) -> str | None:
    found = checks.health(KEY)
    return None if found is None else found.status


async def test_checks_that_stay_as_they_were_keep_what_they_have_found_and_others_begin_anew() -> None:
    changed, port = asyncio.Event(), free_port()
    checks = LocalChecks(changed.set)
    checks.keep(wanted("a", tcp(port)))
    async with listening(port):
        running = asyncio.create_task(checks.run())
        await told(changed, lambda: status(checks) == "healthy")
        checks.keep(wanted("a", tcp(port), weight=2))
        assert status(checks) == "healthy"
        checks.keep(wanted("a", tcp(free_port())))
        assert checks.health(KEY) == LocalHealth("unknown", "tcp: not checked yet")
        await told(changed, lambda: status(checks) == "unhealthy")
        checks.keep(wanted("a"))
        assert checks.health(KEY) is None
        running.cancel()
        await asyncio.wait([running])
