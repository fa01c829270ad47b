"""`POST /v1/commands`: published commands of any kind, run as one batch."""

from typing import Any, Final

from muster.wire.command import Envelope
from muster.wire.error import InvalidCommand, MusterError, TooLarge
from workers.gateway import Gateway
from workers.http.exchange import Reply, Request
from workers.http.model import CommandBatch, OutcomeList
from workers.http.routing import Route
from workers.http.write import outcomes, run_all
from workers.writer.published import check_nul, claimed_id, envelope_from, outcome_of_error, parsed_json, refuse_unknown

batch_commands_max: Final = 1_000
batch_bytes_max: Final = 16_777_216


def routes(gateway: Gateway) -> tuple[Route, ...]:
    """The one route."""

    async def batch(request: Request) -> Reply:
        """Run `{commands: […]}`, or a bare list: all at once, in order per partition."""
        body, escaped = parsed_json(await request.body(batch_bytes_max))
        items = await run_all(gateway, [_parsed(entry, escaped) for entry in _commands(body)])
        return outcomes(items, gateway.views)

    return (
        Route(
            "POST",
            "/v1/commands",
            batch,
            "Run published commands; outcomes in their order",
            "registry",
            answer=OutcomeList,
            body=CommandBatch,
        ),
    )


def _parsed(entry: object, escaped: bool) -> Envelope | dict[str, Any]:
    """The command, or the outcome of a malformed one; `escaped`: there may be a NUL in it."""
    try:
        if escaped:
            check_nul(entry)
        return envelope_from(entry)
    except MusterError as error:
        # Its outcome takes its place in the list: the commands beside it are run all the same.
        return outcome_of_error(error, claimed_id(entry), None)


def _commands(body: object) -> list[object]:
    if isinstance(body, dict):
        refuse_unknown(body, "commands")
        body = body.get("commands")
    if not isinstance(body, list):
        raise InvalidCommand("commands: must be a list of commands", field="commands")
    if len(body) > batch_commands_max:
        raise TooLarge(
            f"a batch may have {batch_commands_max} commands, not {len(body)}", commands_max=batch_commands_max
        )
    return body
