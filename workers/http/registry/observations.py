"""`POST /v1/observations`: what clients saw of the instances that they call. Nothing is renewed by it, and no log written."""

from typing import Final

import orjson

from muster.wire.error import InvalidCommand, TooLarge
from muster.wire.telemetry.observations import OBSERVED, Observations, observations_of
from workers.gateway import Gateway
from workers.http.exchange import Reply, Request
from workers.http.model import ObservationBatch, ObservationsTakenShape
from workers.http.routing import Route
from workers.writer.published import refuse_unknown

observed_request_max: Final = 5_000


def routes(gateway: Gateway) -> tuple[Route, ...]:
    """The one route."""

    async def observations(request: Request) -> Reply:
        """Take `{observations: [{observer, service, seconds, observed}, …]}`; what it says of who is not there is passed over."""
        # Names are judged by their pattern, which has no NUL.
        body = await request.fields(unjudged="observations")
        taken = await gateway.observe(_messages(body, request.host))
        return Reply(orjson.dumps({"taken": taken}))

    return (
        Route(
            "POST",
            "/v1/observations",
            observations,
            "Tell what a client saw of instances",
            "registry",
            answer=ObservationsTakenShape,
            body=ObservationBatch,
        ),
    )


def _messages(body: dict[str, object], host: str) -> list[Observations]:
    refuse_unknown(body, "observations")
    told = body.get("observations")
    if not isinstance(told, list):
        raise InvalidCommand("observations: must be a list", field="observations")
    messages = [_message(entry, f"observations.{number}", host) for number, entry in enumerate(told)]
    if (size := sum(len(message.observed) for message in messages)) > observed_request_max:
        limit = observed_request_max
        raise TooLarge(f"a request may be about {limit} instances, not {size}", observed_request_max=limit)
    return messages


def _message(entry: object, path: str, host: str) -> Observations:
    if not isinstance(entry, dict) or entry.keys() != OBSERVED:
        raise InvalidCommand(f"{path}: an object with {', '.join(sorted(OBSERVED))}, and nothing else", field=path)
    try:
        # Where it comes from is seen here and not told: by it the observers of one host are one voice.
        return observations_of(entry)._replace(host=host)
    except InvalidCommand as error:
        raise InvalidCommand(f"{path}.{error.detail}", field=f"{path}.{error.context['field']}") from None
