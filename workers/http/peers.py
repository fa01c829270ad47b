"""What controllers ask of each other: to execute a command, or to prove a reign, where the partition is written."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from muster.wire.error import NotReady
from muster.wire.route import partition_of
from workers.http.exchange import JSON_OPTIONS, Reply
from workers.writer.published import envelope_from, json_from
from workers.writer.writer import Writer


def router(writers: Mapping[int, Writer]) -> APIRouter:
    """The routes between controllers; they go to this controller's own writers and nowhere else."""
    api = APIRouter(tags=["peer"], include_in_schema=False)

    @api.post("/v1/peer/execute", response_model=dict[str, Any])
    async def execute(request: Request) -> Response:
        """The answer of the partition's writer here."""
        envelope = envelope_from(json_from(await request.body()), inside=True)
        answer = await writers[partition_of(envelope.stream, len(writers))].execute(envelope)
        return Reply(orjson.dumps(asdict(answer), option=JSON_OPTIONS)).response()

    @api.post("/v1/peer/prove/{partition}", response_model=dict[str, int])
    async def prove(partition: int) -> Response:
        """The proven head of a partition that is written here."""
        if partition not in writers:
            raise NotReady(f"partition {partition} is unknown here")
        return Reply(orjson.dumps({"position": await writers[partition].prove()})).response()

    return api
