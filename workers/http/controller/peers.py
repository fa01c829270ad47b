"""What controllers ask of each other: to execute a command, or to prove a reign, where the partition is written."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

import orjson

from muster.wire.error import NotReady
from muster.wire.route import partition_of
from workers.http.exchange import JSON_OPTIONS, Reply, Request
from workers.http.routing import Route
from workers.writer.published import envelope_from, json_from
from workers.writer.writer import Writer

command_bytes_max: Final = 16_777_216


def routes(writers: Mapping[int, Writer]) -> tuple[Route, ...]:
    """The routes between controllers; they go to this controller's own writers and nowhere else."""

    async def execute(request: Request) -> Reply:
        # Between controllers also those commands travel that only a controller gives itself.
        envelope = envelope_from(json_from(await request.body(command_bytes_max)), inside=True)
        answer = await writers[partition_of(envelope.stream, len(writers))].execute(envelope)
        return Reply(orjson.dumps(asdict(answer), option=JSON_OPTIONS))

    async def prove(request: Request) -> Reply:
        partition = request.number("partition")
        if partition not in writers:
            raise NotReady(f"partition {partition} is unknown here")
        return Reply(orjson.dumps({"position": await writers[partition].prove()}))

    return (
        Route("POST", "/v1/peer/execute", execute, documented=False),
        Route("POST", "/v1/peer/prove/{partition}", prove, documented=False),
    )
