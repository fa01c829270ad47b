"""How a client learns which controllers there are: it asks the one that answers, now and then, while it is open."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from pydantic import ValidationError

from muster.client.controllers.known import KnownControllers
from muster.wire.controllers import LIVE_CONTROLLERS
from muster.wire.error import MusterError

LEARN_AFTER_SECONDS: Final = 0.2
"""A client that lives shorter, as a command on a command line does, asks nobody."""

LEARN_EVERY_SECONDS: Final = 10.0
ASK_SECONDS_MAX: Final = 2.0

Ask = Callable[[str], Awaitable[bytes]]
"""Asks the controller at a URL which controllers live; its answer."""


async def keep_learning(known: KnownControllers, ask: Ask) -> None:
    """Keep what is known of the controllers current, for ever; begun once a controller has answered."""
    await asyncio.sleep(LEARN_AFTER_SECONDS)
    while True:
        # Those that were learned are for when those that were given do not answer: as soon as one of these does again, it is
        # the one to ask. Behind it there may be more than one controller, and someone who spreads clients over them.
        away = known.first not in known.given
        for url in (*known.given, known.first) if away else (known.first,):
            if await _learned(known, ask, url):
                if away and url in known.given:
                    known.answered(url)
                break
        # Clients that were started together must not ask together for ever.
        await asyncio.sleep(LEARN_EVERY_SECONDS * random.uniform(0.5, 1.0))


async def _learned(known: KnownControllers, ask: Ask, url: str) -> bool:
    try:
        async with asyncio.timeout(ASK_SECONDS_MAX):
            answer = LIVE_CONTROLLERS.validate_json(await ask(url))
    # An older controller does not know the question. Whoever needs an answer finds out by himself that there is none.
    except (MusterError, TimeoutError, ValidationError):
        return False
    known.learn(url, (one.url for one in answer.items))
    return True
