"""Many commands in one request, and those that no writer has answered once more."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import orjson
from pydantic import TypeAdapter

from muster.client.controllers.known import backoff_seconds
from muster.client.transport import Transport, path_of
from muster.wire.command import Envelope, PublishedCommand, document_of, new_id
from muster.wire.registry.answers import Outcome

BATCH_COMMANDS_MAX: Final = 1_000
_OUTCOMES: Final = TypeAdapter(list[Outcome])


async def run_commands(transport: Transport, commands: Sequence[Envelope | PublishedCommand]) -> list[Outcome]:
    """See `Client.commands`. One batch follows the other, so that commands on one stream keep their order."""
    outcomes: list[Outcome] = []
    for start in range(0, len(commands), BATCH_COMMANDS_MAX):
        outcomes += await _run_batch(transport, commands[start : start + BATCH_COMMANDS_MAX])
    return outcomes


async def _run_batch(transport: Transport, commands: Sequence[Envelope | PublishedCommand]) -> list[Outcome]:
    ends_at, tries = time.monotonic() + transport.timeout_seconds, 0
    outcomes: dict[int, Outcome] = {}
    left = list(range(len(commands)))
    while True:
        body = {"commands": [document_of(commands[index]) for index in left]}
        # This id names only the request. The controller goes by the ids of the commands, so a new one at each round
        # does no harm.
        reply = await transport.write("POST", path_of("commands"), body, command_id=new_id())
        outcomes |= zip(left, _OUTCOMES.validate_python(orjson.loads(reply.body)["items"]), strict=True)
        # An unknown command may have been recorded: with the same id it is not done twice.
        left = [index for index in left if outcomes[index].status == "unknown"]
        pause = backoff_seconds(tries)
        if not left or time.monotonic() + pause >= ends_at:
            return [outcomes[index] for index in range(len(commands))]
        tries += 1
        await asyncio.sleep(pause)
