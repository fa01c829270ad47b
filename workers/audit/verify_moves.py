"""Checks the log's moves of shards and failovers of groups against their invariants (`sagas.invariants`), over all partitions."""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from infra.log.codec import CloudEventMapper
from infra.log.port import START, EventLog
from muster.wire.stream import SERVICE, kind_of
from sagas.invariants.log import Invariants

BREACHES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class MovesReport:
    """What was found: `events` about keyspaces, data nodes, groups and sagas; `breaches`, each with its place (`BREACHES_MAX` at
    most); `owed`: what is still to come, as of the log's end (moves under way, clean-ups), which is no breach.
    """

    events: int
    breaches: tuple[str, ...]
    owed: tuple[str, ...]


async def verify_moves(logs: Iterable[EventLog], mapper: CloudEventMapper) -> MovesReport:
    """Read every partition to its end as of now. Raises Corrupt where the log itself is damaged."""
    invariants, events, breaches = Invariants(), 0, list[str]()
    for log in logs:
        async with aclosing(log.read(START)) as batches:
            async for batch in batches:
                for position, document in batch.records:
                    # Services take no part in moves: their events are not even decoded.
                    if kind_of(document["subject"]) != SERVICE:
                        events += 1
                        breaches += invariants.take(mapper.recorded(log.partition, position, document))
                await asyncio.sleep(0)
    return MovesReport(events, tuple(breaches[:BREACHES_MAX]), tuple(invariants.owed()))
