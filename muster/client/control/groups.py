"""Failover groups for operators, as `Client.groups`: who leads them, and what is to become of them.

    async with Client(actor="ops") as client:
        await client.groups.create("db", {"db1": 1, "db2": 10}, lease_seconds=2.0)
        await client.groups.failover("db", to="db2", reason="db1's host is replaced")
        print((await client.groups.one("db")).primary)

Whoever runs a member uses `muster.Membership`; whoever calls the primary, `muster.Group`.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Literal, TypedDict

from typing_extensions import Unpack

from muster.client.rows import RowsChanged, changes_of, page_of, row_of
from muster.client.transport import Consistency, Transport, path_of
from muster.client.writing import write
from muster.wire.groups.answers import GROUPS, GroupSetting, GroupState
from muster.wire.read_model import Page
from muster.wire.registry.answers import WRITTEN, Written
from muster.wire.stream import FAILOVER, group_stream, saga_stream


class GroupSettings(TypedDict, total=False):
    """How a group fails over; see `GroupState`."""

    threshold: int
    heartbeat_seconds: float
    lease_seconds: float
    fencing: Literal["lease", "hook", "unfenced"]
    max_lag: int
    synchronous: bool
    preempt: bool
    hold_down_seconds: float
    service: str
    failover_seconds: float


class GroupControl:
    """Reads failover groups and arranges them. Raises the refusals of `muster.wire.error`, as `Client`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def all(self, *, consistency: Consistency = "session") -> Page[GroupState]:
        """All groups, by name."""
        return await page_of(self._transport, GROUPS, {}, consistency)

    async def one(self, group: str, *, consistency: Consistency = "session") -> GroupState:
        """One group. Raises GroupNotFound."""
        # By its name alone: the list would grow with all the others.
        return await row_of(self._transport, GROUPS, (group,), consistency)

    async def watch(self, group: str, *, reconnect_seconds_max: float = 5.0) -> AsyncGenerator[GroupState | None, None]:
        """The group as it is, then as often as it changes; None: it is not there, or not any more."""
        changes: AsyncGenerator[RowsChanged[GroupState], None]
        # The group's own absence is an answer too, but only the first picture tells of it.
        first = True
        async with aclosing(changes_of(self._transport, GROUPS, {"group": group}, reconnect_seconds_max)) as changes:
            async for changed in changes:
                if changed.changed or changed.gone or first:
                    yield next(iter(changed.changed), None)
                first = False

    async def create(
        self,
        group: str,
        members: Mapping[str, int],
        *,
        reason: str | None = None,
        command_id: str | None = None,
        **settings: Unpack[GroupSettings],
    ) -> Written:
        """Have the group, with these members and their priorities. Raises VersionConflict: it is there, with other settings."""
        # In the order that was given: it is the order of the group's first events.
        named = [{"member": member, "priority": priority} for member, priority in members.items()]
        body = {"members": named, **settings}
        return await self._write("PUT", (group,), body, reason, command_id)

    async def set(
        self,
        group: str,
        *,
        default: Sequence[GroupSetting] = (),
        reason: str | None = None,
        **settings: Unpack[GroupSettings],
    ) -> Written:
        """Change what is given of the group's settings, and take back what `default` names to what `create` takes without it."""
        # Left out where it is empty: a controller of before knows no such field.
        body = {**settings, "default": list(default)} if default else settings
        return await self._write("PUT", (group, "settings"), body, reason)

    async def delete(self, group: str, *, force: bool = False, reason: str | None = None) -> Written:
        """Have the group no more. Raises VerbNotAllowed while members run, unless `force`."""
        return await self._write("DELETE", (group,), {"force": force}, reason)

    async def pause(self, group: str, *, reason: str | None = None) -> Written:
        """Let failovers begin only when somebody asks for them."""
        return await self._write("PUT", (group, "pause"), {}, reason)

    async def resume(self, group: str, *, reason: str | None = None) -> Written:
        """Let failovers begin by themselves again."""
        return await self._write("DELETE", (group, "pause"), {}, reason)

    async def add(self, group: str, member: str, *, priority: int = 1, reason: str | None = None) -> Written:
        """Have a member, or give it another priority."""
        return await self._write("PUT", (group, "members", member), {"priority": priority}, reason)

    async def remove(self, group: str, member: str, *, reason: str | None = None) -> Written:
        """Have the member no more. Raises VerbNotAllowed of the primary."""
        return await self._write("DELETE", (group, "members", member), {}, reason)

    async def failover(
        self,
        group: str,
        *,
        to: str | None = None,
        accept_data_loss: bool = False,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> "Written":
        """Let another member lead: `to`, or whoever comes first. The saga is `Written.incarnation`, as `failover_id` says.

        Raises GroupNotFound, MemberNotFound, NoHealthyStandby (a reason per member), DataLossRefused (who lacks what), or
        VerbNotAllowed (another failover is under way).
        """
        # Always both: with the same command id a repeat has to ask for the same.
        body = {"to": to, "accept_data_loss": accept_data_loss}
        return await self._write("POST", (group, "failover"), body, reason, command_id)

    # All writes of a group are alike: a path below it, and the command's fields.
    async def _write(
        self, method: str, parts: tuple[str, ...], body: object, reason: str | None, command_id: str | None = None
    ) -> Written:
        path = path_of("groups", *parts)
        return await write(self._transport, WRITTEN, method, path, body, reason=reason, command_id=command_id)


def failover_id(group: str, number: int) -> str:
    """The saga of the group's failover with this number."""
    return saga_stream(group_stream(group), FAILOVER, number)
