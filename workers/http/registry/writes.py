"""Writes: one instance's commands, and batches of published commands. All of these routes are hot."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from domain.catalogue import command_from
from domain.registry.service import (
    ClearMaintenance,
    DeregisterInstance,
    DrainInstance,
    Heartbeat,
    RegisterInstance,
    ReportHealth,
    SetMaintenance,
    UndrainInstance,
)
from muster.wire.command import Command, Envelope
from muster.wire.error import InvalidCommand, MusterError, TooLarge
from muster.wire.stream import service_stream
from workers.gateway import Control
from workers.http.exchange import Reply, Request
from workers.http.write import execute, outcomes, run_all, told, write_of
from workers.writer.published import check_name, claimed_id, envelope_from, json_from, outcome_of_error, reason_from

batch_commands_max: Final = 1_000
batch_bytes_max: Final = 16_777_216


@dataclass(frozen=True, slots=True)
class Registry:
    """The writes of a controller."""

    control: Control

    async def register(self, request: Request) -> Reply:
        """`PUT` an instance: the body is its spec."""
        check_names(request)
        spec = await request.fields()
        return await self._execute(request, RegisterInstance.type, {"instance": request.instance, "spec": spec}, None)

    def write(self, command: type[Command], *, reasoned: bool = False) -> Callable[[Request], Awaitable[Reply]]:
        """The route of a command whose body is its own fields; `reasoned`: or `{reason}`."""

        async def run(request: Request) -> Reply:
            check_names(request)
            fields = await request.fields()
            if "instance" in fields:
                raise InvalidCommand("instance: it stands in the path", field="instance")
            reason = reason_from(fields.pop("reason", None)) if reasoned else None
            fields["instance"] = request.instance
            return await self._execute(request, command.type, fields, reason)

        return run

    async def _execute(self, request: Request, type_name: str, data: dict[str, Any], reason: str | None) -> Reply:
        command = command_from(type_name, data)
        # Whatever is wrong with the request is found before the command is given, not after.
        write = write_of(request)
        envelope = write.envelope(service_stream(request.service), command, reason)
        return told(await execute(self.control, envelope, write.seconds), write.known)

    async def batch(self, request: Request) -> Reply:
        """`POST` commands: `{commands: […]}` or a bare list; all run at once, in order per partition."""
        entries = _commands(json_from(await request.body(batch_bytes_max)))
        return outcomes(await run_all(self.control, [_parsed(entry) for entry in entries]))


def _parsed(entry: object) -> Envelope | dict[str, Any]:
    """The command, or the outcome of a malformed one."""
    try:
        return envelope_from(entry)
    except MusterError as error:
        return outcome_of_error(error, claimed_id(entry), None)


def routes(control: Control) -> dict[tuple[str, str], Callable[[Request], Awaitable[Reply]]]:
    """The handlers of all writes, by resource and method."""
    registry = Registry(control)
    write = registry.write
    return {
        ("instance", "PUT"): registry.register,
        ("instance", "DELETE"): write(DeregisterInstance),
        ("health", "PUT"): write(ReportHealth),
        ("heartbeat", "POST"): write(Heartbeat),
        ("maintenance", "PUT"): write(SetMaintenance, reasoned=True),
        ("maintenance", "DELETE"): write(ClearMaintenance, reasoned=True),
        ("drain", "PUT"): write(DrainInstance, reasoned=True),
        ("drain", "DELETE"): write(UndrainInstance, reasoned=True),
        ("commands", "POST"): registry.batch,
    }


def check_names(request: Request) -> None:
    """Raises InvalidCommand when a name in the path is none."""
    check_name("service", request.service)
    check_name("instance", request.instance)


def _commands(body: Any) -> list[object]:
    if isinstance(body, dict):
        if unknown := body.keys() - {"commands"}:
            raise InvalidCommand(f"{min(unknown)}: there is no such field here", field=min(unknown))
        body = body.get("commands")
    if not isinstance(body, list):
        raise InvalidCommand("commands: must be a list of commands", field="commands")
    if len(body) > batch_commands_max:
        raise TooLarge(
            f"a batch may have {batch_commands_max} commands, not {len(body)}", commands_max=batch_commands_max
        )
    return body
