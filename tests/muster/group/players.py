"""The runners of a group's members, played by their commands: what they say, when a test wants it."""

from typing import Any

from muster import Client, PublishedCommand
from muster.wire.groups.answers import GROUPS, GroupState
from muster.wire.stream import group_stream


class Players:
    """The members of one group, all in the hands of a test. Leases and silence are long: nothing happens by itself."""

    def __init__(self, client: Client, group: str = "db") -> None:
        self.client, self.group = client, group
        self._incarnations: dict[str, int | None] = {}

    async def say(self, type_: str, **data: Any) -> int | None:
        """Give a command to the group; the incarnation that its answer has."""
        command = PublishedCommand(
            type=f"muster.group.{type_}.v1", stream=group_stream(self.group), data=data, actor="tests"
        )
        [outcome] = await self.client.commands([command])
        return outcome.written().incarnation

    async def create(self, *members: str) -> None:
        """Have the group; the first member is preferred."""
        ranked = [{"member": member, "priority": 10 - rank} for rank, member in enumerate(members)]
        await self.say("create", members=ranked, lease_seconds=3_600, heartbeat_seconds=600)

    async def ready(self, *members: str) -> None:
        """The members join, each at `<member>:5432`, and say that they are ready."""
        for member in members:
            address = f"{member}:5432"
            self._incarnations[member] = await self.say("join", member=member, process=member, address=address)
        for member in members:
            await self.speak("report_member", member, outcome="ready")

    async def speak(self, type_: str, member: str, **data: Any) -> None:
        """The member's runner says something."""
        await self.say(type_, member=member, incarnation=self._incarnations[member], **data)

    async def until(self, **wanted: object) -> GroupState:
        """The group's row, once it has these values."""
        async for change in self.client.watch_rows(GROUPS):
            for row in change.changed:
                if row.group == self.group and all(getattr(row, name) == value for name, value in wanted.items()):
                    return row
        raise AssertionError("a watch has no end")

    async def serve(self, member: str, epoch: int) -> None:
        """The member is made the primary of the epoch, and says that it serves."""
        await self.until(primary=member, epoch=epoch, fenced=False)
        await self.speak("report_serving", member, epoch=epoch)
