"""A member that is an instance of a service too, so that it is discovered, and its checks are listened to."""

import asyncio
from collections.abc import Sequence

from muster.client.client import Client
from muster.client.controllers.known import backoff_seconds
from muster.group.progress import LOG
from muster.wire.error import MusterError

lease_seconds: float = 10.0


async def keep_registered(service: str, member: str, address: str, urls: Sequence[str], cluster: str | None) -> None:
    """Be an instance of the service until cancelled; `address` is host:port. A controller that is away is waited for."""
    host, _, port = address.rpartition(":")
    tries = 0
    while True:
        try:
            async with (
                Client(urls, actor=f"member {member}", cluster=cluster) as client,
                client.registered(service, member, host.strip("[]"), int(port), lease_seconds=lease_seconds) as held,
            ):
                await held.lost.wait()
                # Somebody has taken it out, or its name: the member runs on, and does not fight about it.
                return LOG.warning("%s is no instance of %s any more", member, service)
        except MusterError as error:
            LOG.warning("%s is not registered as an instance of %s: %s", member, service, error.detail)
            await asyncio.sleep(backoff_seconds(tries))
            tries += 1
