"""Writes of one instance: register, deregister, health, heartbeat, maintenance, drain."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from domain.catalogue import command_from
from domain.registry.service import (
    BelieveChecks,
    ClearMaintenance,
    DeregisterInstance,
    DrainInstance,
    Heartbeat,
    RegisterInstance,
    ReportHealth,
    SetMaintenance,
    UndrainInstance,
)
from muster.wire.command import Command
from muster.wire.error import InvalidCommand
from muster.wire.registry.spec import Spec
from muster.wire.stream import Name, service_stream
from workers.gateway import Gateway
from workers.http.exchange import Reading, Reply, Request
from workers.http.model import Written
from workers.http.routing import INSTANCE, Handler, Route
from workers.http.write import answered, execute, give, write_of
from workers.writer.published import reason_from


class Registering(Reading):
    """Who registers, beside the spec in the body."""

    holder: Annotated[
        Name | None,
        Field(description="An id that the caller has made for itself; of another holder, a new incarnation"),
    ] = None
    incarnation: Annotated[
        int | None, Field(description="The one that the caller had; refused when another has come since", ge=0)
    ] = None


@dataclass(frozen=True, slots=True)
class Registry:
    """The writes of instances."""

    gateway: Gateway

    async def register(self, request: Request) -> Reply:
        """Register the instance; the body is its spec, and the query says who registers."""
        service, instance = request.name("service"), request.name("instance")
        data: dict[str, Any] = {"instance": instance, "spec": await request.fields()}
        seconds = None
        if request.scope["query_string"]:
            asked = request.asked(Registering)
            data |= {"holder": asked.holder, "incarnation": asked.incarnation}
            seconds = asked.timeout_seconds
        return await self._execute(request, service, RegisterInstance.type, data, None, seconds)

    def write(self, command: type[Command], *, reasoned: bool = False) -> Handler:
        """A command whose body is its own fields; `reasoned`: or `{reason}`."""

        async def run(request: Request) -> Reply:
            service, instance = request.name("service"), request.name("instance")
            fields = await request.fields()
            if "instance" in fields:
                raise InvalidCommand("instance: it stands in the path", field="instance")
            reason = reason_from(fields.pop("reason", None)) if reasoned else None
            fields["instance"] = instance
            return await self._execute(request, service, command.type, fields, reason)

        return run

    async def believe(self, request: Request) -> Reply:
        """Take those of the service out of discovery whose checks have failed together."""
        return await give(
            self.gateway, request, service_stream(request.name("service")), BelieveChecks, {}, reasoned=True
        )

    async def _execute(
        self,
        request: Request,
        service: str,
        type_name: str,
        data: dict[str, Any],
        reason: str | None,
        seconds: float | None = None,
    ) -> Reply:
        command = command_from(type_name, data)
        # Whatever is wrong with the request is found before the command is given, not after.
        write = write_of(request, seconds)
        envelope = write.envelope(service_stream(service), command, reason)
        return answered(await execute(self.gateway, envelope, write.seconds), write.known, self.gateway.views)


def routes(gateway: Gateway) -> tuple[Route, ...]:
    """The writes of instances."""
    registry = Registry(gateway)

    def write(method: str, verb: str, command: type[Command], summary: str, *, reasoned: bool = False) -> Route:
        handler = registry.write(command, reasoned=reasoned)
        return Route(
            method,
            f"{INSTANCE}{verb}",
            handler,
            summary,
            "registry",
            answer=Written,
            command=command,
            reasoned=reasoned,
        )

    return (
        Route(
            "PUT",
            INSTANCE,
            registry.register,
            "Register an instance, or change its registration",
            "registry",
            answer=Written,
            command=RegisterInstance,
            body=Spec,
            query=Registering,
        ),
        _believe(registry),
        write("DELETE", "", DeregisterInstance, "Deregister an instance"),
        write("PUT", "/health", ReportHealth, "Report an instance's health"),
        write("POST", "/heartbeat", Heartbeat, "Renew an instance's lease and ttl checks"),
        write("PUT", "/maintenance", SetMaintenance, "Begin maintenance", reasoned=True),
        write("DELETE", "/maintenance", ClearMaintenance, "End maintenance", reasoned=True),
        write("PUT", "/drain", DrainInstance, "Begin to drain", reasoned=True),
        write("DELETE", "/drain", UndrainInstance, "End draining", reasoned=True),
    )


def _believe(registry: Registry) -> Route:
    summary = "Believe checks that have failed together: those instances are ill"
    path, command = "/v1/services/{service}/believe", BelieveChecks
    # Of a service, and not of an instance as all others here.
    return Route("POST", path, registry.believe, summary, "registry", answer=Written, command=command, reasoned=True)
