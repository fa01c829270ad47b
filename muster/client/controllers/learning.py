"""How a client learns which controllers there are: it asks the one that answers, now and then, while it is open.

So it also learns when one has fallen silent that it watches something at: a watch may rightly have nothing to say for long.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from pydantic import ValidationError

from muster.client.controllers.known import KnownControllers
from muster.wire.controllers import LIVE_CONTROLLERS
from muster.wire.error import MusterError, Unreachable

LEARN_AFTER_SECONDS: Final = 0.2
"""A client that lives shorter, as a command on a command line does, asks nobody."""

LEARN_EVERY_SECONDS: Final = 10.0
ASK_SECONDS_MAX: Final = 2.0
SILENT_TIMES: Final = 2

Ask = Callable[[str], Awaitable[bytes]]
"""Asks the controller at a URL which controllers live; its answer."""


async def keep_learning(
    known: KnownControllers, ask: Ask, watched: Callable[[], Collection[str]], silent: Callable[[str], None]
) -> None:
    """Keep what is known of the controllers current, for ever; begun once a controller has answered.

    `watched` are those at which watches are open; `silent` is told which of them does not answer any more.
    """
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
        for url in watched():
            # Of one that hangs no connection is closed. Where there is no other one, there is nowhere to go.
            if len(known.urls) > 1 and await _is_silent(ask, url):
                known.failed(url)
                silent(url)
        # Clients that were started together must not ask together for ever.
        await asyncio.sleep(LEARN_EVERY_SECONDS * random.uniform(0.5, 1.0))


async def _is_silent(ask: Ask, url: str) -> bool:
    # Once may be a long pause of a controller that is busy.
    for _ in range(SILENT_TIMES):
        try:
            async with asyncio.timeout(ASK_SECONDS_MAX):
                await ask(url)
            return False
        except (TimeoutError, Unreachable):
            continue
        except MusterError:
            return False
    return True


async def _learned(known: KnownControllers, ask: Ask, url: str) -> bool:
    try:
        async with asyncio.timeout(ASK_SECONDS_MAX):
            answer = LIVE_CONTROLLERS.validate_json(await ask(url))
    # An older controller does not know the question. Whoever needs an answer finds out by himself that there is none.
    except (MusterError, TimeoutError, ValidationError):
        return False
    known.learn(url, (one.url for one in answer.items))
    return True
