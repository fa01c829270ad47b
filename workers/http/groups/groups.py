"""What is asked of failover groups over HTTP: by operators, and by the runners of members. Reads are the read model's.

All operations are alike: a command to the stream of the group that the path names, whose fields are those of the body, and the
member's name where the path has one. So they are a table.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from domain.catalogue import command_from
from domain.groups.commands import (
    AddMember,
    CreateGroup,
    DeleteGroup,
    Failover,
    PauseGroup,
    RemoveMember,
    ResumeGroup,
    SetGroup,
)
from domain.groups.member import (
    ChangeInSync,
    JoinGroup,
    RenewMember,
    ReportEnded,
    ReportFenced,
    ReportMember,
    ReportPosition,
    ReportServing,
)
from muster.wire.command import Command
from muster.wire.stream import group_stream
from workers.gateway import Gateway
from workers.http.exchange import Reading, Reply, Request
from workers.http.model import Written
from workers.http.routing import Handler, Route
from workers.http.write import answered, begun, execute, give

_GROUP: Final = "/v1/groups/{group}"
_MEMBER: Final = f"{_GROUP}/members/{{member}}"
_TAG: Final = "groups"

_OF_OPERATORS: Final[tuple[tuple[str, str, type[Command], str], ...]] = (
    ("PUT", _GROUP, CreateGroup, "Have a failover group"),
    ("PUT", f"{_GROUP}/settings", SetGroup, "Change how the group fails over"),
    ("PUT", f"{_GROUP}/pause", PauseGroup, "Let failovers begin only when an operator asks"),
    ("DELETE", f"{_GROUP}/pause", ResumeGroup, "Let failovers begin by themselves again"),
    ("POST", f"{_GROUP}/failover", Failover, "Let another member lead"),
    ("PUT", _MEMBER, AddMember, "Have a member, or give it another priority"),
    ("DELETE", _MEMBER, RemoveMember, "Have the member no more"),
)
# No reasons: what a runner says it has seen itself, many times a minute.
_OF_RUNNERS: Final[tuple[tuple[str, type[Command], str], ...]] = (
    ("join", JoinGroup, "Run the member from now on"),
    ("renew", RenewMember, "Say that the member is still here"),
    ("report", ReportMember, "Say that the member is ready, has failed, or leaves"),
    ("ended", ReportEnded, "Say that the primary has ended"),
    ("fenced", ReportFenced, "Say what came of fencing the primary"),
    ("serving", ReportServing, "Say that the primary serves"),
    ("position", ReportPosition, "Say how far the member's copy reaches"),
    ("in-sync", ChangeInSync, "Let acknowledgements rest on these members"),
)


class DeleteQuery(Reading):
    """Whether the group is deleted although members run."""

    force: Annotated[
        bool, Field(description="Although members run: their runners stop. The primary has to have ended")
    ] = False


@dataclass(frozen=True, slots=True)
class Groups:
    """The writes of groups."""

    gateway: Gateway

    def write(self, command: type[Command], *, of_member: bool, reasoned: bool) -> Handler:
        """The handler of a command to one group."""

        async def run(request: Request) -> Reply:
            # In the path alone: with a second name in the body it would be open which of them is meant.
            in_path = {"member": request.name("member")} if of_member else {}
            stream = group_stream(request.name("group"))
            return await give(self.gateway, request, stream, command, in_path, reasoned=reasoned)

        return run

    async def delete(self, request: Request) -> Reply:
        """Have the group no more."""
        stream, query = group_stream(request.name("group")), request.asked(DeleteQuery)
        write, fields = await begun(request, reasoned=True, seconds=query.timeout_seconds)
        # In the query as with nodes, or in the body, which is the command's.
        fields.setdefault("force", query.force)
        command = command_from(DeleteGroup.type, fields)
        answer = await execute(self.gateway, write.envelope(stream, command), write.seconds)
        return answered(answer, write.known, self.gateway.views)


def routes(gateway: Gateway) -> tuple[Route, ...]:
    """The routes of groups, but for the reads, which the read model has."""
    groups = Groups(gateway)

    def route(method: str, path: str, command: type[Command], summary: str, *, reasoned: bool) -> Route:
        handler = groups.write(command, of_member="{member}" in path, reasoned=reasoned)
        return Route(method, path, handler, summary, _TAG, answer=Written, command=command, reasoned=reasoned)

    # Apart from the table: it is the only one with a query of its own.
    delete = Route(
        "DELETE",
        _GROUP,
        groups.delete,
        "Have the group no more",
        _TAG,
        answer=Written,
        command=DeleteGroup,
        reasoned=True,
        query=DeleteQuery,
    )
    return (
        *(route(method, path, command, summary, reasoned=True) for method, path, command, summary in _OF_OPERATORS),
        delete,
        *(
            route("POST", f"{_MEMBER}/{verb}", command, summary, reasoned=False)
            for verb, command, summary in _OF_RUNNERS
        ),
    )
