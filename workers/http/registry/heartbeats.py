"""`POST /v1/heartbeats`: signs of life of many instances in one request."""

from typing import Final

import orjson

from muster.wire.error import InvalidCommand, TooLarge
from muster.wire.problem import facts_of
from muster.wire.telemetry.heartbeats import MEMBERS, Heartbeats, judged
from workers.gateway import Gateway
from workers.http.exchange import Reply, Request
from workers.http.model import HeartbeatBatch, HeartbeatsHeardShape
from workers.http.routing import Route
from workers.writer.published import refuse_unknown

beats_max: Final = 5_000


def routes(gateway: Gateway) -> tuple[Route, ...]:
    """The one route."""

    async def heartbeats(request: Request) -> Reply:
        """Hear `{beats: [{agent, service, items}, …]}`: each instance by itself, without an event where nothing changes."""
        # Names are judged by their pattern, which has no NUL.
        messages = _messages(await request.fields(unjudged="beats"))
        heard = await gateway.hear(messages)
        for message, unheard in zip(messages, heard, strict=True):
            gateway.loads.hear(message, {instance for instance, _ in unheard})
        refused = [
            {"service": message.service, "instance": instance, "error": facts_of(error)}
            for message, unheard in zip(messages, heard, strict=True)
            for instance, error in unheard
        ]
        return Reply(orjson.dumps({"renewed": _size(messages) - len(refused), "refused": refused}))

    return (
        Route(
            "POST",
            "/v1/heartbeats",
            heartbeats,
            "Hear many instances at once",
            "registry",
            answer=HeartbeatsHeardShape,
            body=HeartbeatBatch,
        ),
    )


def _messages(body: dict[str, object]) -> list[Heartbeats]:
    refuse_unknown(body, "beats")
    beats = body.get("beats")
    if not isinstance(beats, list):
        raise InvalidCommand("beats: must be a list of heartbeats", field="beats")
    messages = [_message(entry, f"beats.{number}") for number, entry in enumerate(beats)]
    if (size := _size(messages)) > beats_max:
        raise TooLarge(f"a request may be about {beats_max} instances, not {size}", beats_max=beats_max)
    return messages


def _message(entry: object, path: str) -> Heartbeats:
    if not isinstance(entry, dict) or entry.keys() != MEMBERS:
        raise InvalidCommand(f"{path}: an object with agent, service and items, and nothing else", field=path)
    try:
        return judged(entry["agent"], entry["service"], entry["items"])
    except InvalidCommand as error:
        raise InvalidCommand(f"{path}.{error.detail}", field=f"{path}.{error.context['field']}") from None


def _size(messages: list[Heartbeats]) -> int:
    return sum(len(message.beats) for message in messages)
