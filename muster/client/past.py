"""The newest events of the log, and those that come: pages put together."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Final

from muster.client.controllers.known import backoff_seconds
from muster.wire.error import Transient
from muster.wire.registry.answers import Event, EventPage, EventQuery

follow_seconds: Final = 0.5
"""How often a follower asks for more."""
followed_events_max: Final = 1_000
"""How many it asks for at once."""

Events = Callable[..., Awaitable[EventPage]]
"""`Client.events`."""


async def newest_events(events: Events, asked: EventQuery) -> EventPage:
    """The newest events that match. A page of something rare may be short, or empty: those before it are asked for, too."""
    limit = asked.get("limit", 100)
    found = await events(**{**asked, "newest": True})
    while len(found.items) < limit and found.before is not None:
        left = limit - len(found.items)
        earlier = await events(**{**asked, "newest": True, "before": found.before, "limit": left})
        found = replace(found, items=earlier.items + found.items, before=earlier.before)
    return found


async def follow_events(events: Events, asked: EventQuery) -> AsyncGenerator[Event, None]:
    """The newest events that match, then those that come."""
    page, tries = await newest_events(events, asked), 0
    more = {**asked, "limit": followed_events_max}
    while True:
        for event in page.items:
            yield event
        # Nothing new, or a short page of something rare: in either case a moment later there may be more.
        if len(page.items) < followed_events_max:
            await asyncio.sleep(follow_seconds)
        try:
            page, tries = await events(**{**more, "behind": page.behind}), 0
        except Transient:
            # What was told stays told: `behind` is kept, and nothing is missed or told twice.
            page = replace(page, items=())
            await asyncio.sleep(backoff_seconds(tries))
            tries += 1
