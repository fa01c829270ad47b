"""What clients saw goes to the controllers that write those services: there the second opinion is formed.

It is of now or of no use, so what does not arrive is lost; the client's next report follows in seconds.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from muster.wire.error import MusterError
from muster.wire.route import partition_of
from muster.wire.stream import service_stream
from muster.wire.telemetry.observations import Observations
from workers.peers.forwarding import Peers
from workers.peers.members import Member, Members

_LOG: Final = logging.getLogger("muster.loads")


async def pass_on(messages: Sequence[Observations], members: Members, peers: Peers, partitions: int) -> None:
    """Bring each message to the owner of its service's partition, unless that is this controller, or nobody."""
    given: dict[Member, list[Observations]] = {}
    for message in messages:
        owner = members.owner(partition_of(service_stream(message.service), partitions))
        if owner is not None and owner != members.self_:
            given.setdefault(owner, []).append(message)
    await asyncio.gather(*(_told(peers, owner, some) for owner, some in given.items()))


async def _told(peers: Peers, owner: Member, messages: Sequence[Observations]) -> None:
    try:
        await peers.observe(owner, messages)
    except MusterError as error:
        # A peer of before there was this route, or one that is on its way out.
        _LOG.info("what clients saw did not reach %s: %s", owner.name, error.detail)
