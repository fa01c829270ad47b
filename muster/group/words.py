"""What a member's process says to the group: one request each, over one pool of connections that stays open."""

from muster.client.transport import Transport, path_of
from muster.client.writing import written_of
from muster.wire.command import PublishedCommand, new_id
from muster.wire.registry.answers import WRITTEN, Written
from muster.wire.stream import group_stream


class Words:
    """The words of one member. All raise what the group refuses: StaleIncarnation, StaleEpoch, GroupNotFound, MemberNotFound;
    and a Transient when no controller answers in time. `incarnation` is that of the join,
    and `partition` where the group lives.
    """

    def __init__(self, transport: Transport, group: str, member: str) -> None:
        self._transport = transport
        self._group, self._member = group, member
        self._path = ("groups", group, "members", member)
        self.incarnation = 0
        self.partition = 0

    async def join(self, process: str, address: str, *, fences: bool) -> None:
        """This process runs the member from now on; it can fence a primary that is not heard, if it says so."""
        # The answer's incarnation marks all later words: those of a process that joins after this one are told apart by it.
        # A controller of before knows no hooks of this kind, and would refuse the field.
        body = {"process": process, "address": address, **({"fences": True} if fences else {})}
        written = await self._write("join", body)
        assert written.incarnation is not None, "a join without an incarnation"
        self.incarnation, self.partition = written.incarnation, written.partition

    async def renew(self, epoch: int | None, seconds: float) -> Written:
        """Still here; as the primary of the epoch, if there is one."""
        return await self._say("renew", {} if epoch is None else {"epoch": epoch}, seconds)

    def renewal(self, epoch: int | None) -> PublishedCommand:
        """The same as a command to be sent together with others."""
        about: dict[str, object] = {"member": self._member, "incarnation": self.incarnation}
        data = about if epoch is None else {**about, "epoch": epoch}
        actor = f"member {self._group}/{self._member}"
        return PublishedCommand(type="muster.group.renew.v1", stream=group_stream(self._group), data=data, actor=actor)

    async def report(
        self, outcome: str, *, failure: str = "check", why: str = "", seconds: float | None = None
    ) -> Written:
        """Ready, failed, or left."""
        return await self._say("report", {"outcome": outcome, "failure": failure, "why": why}, seconds)

    async def ended(self, epoch: int, how: str, detail: str) -> Written:
        """What was the primary of the epoch acknowledges nothing any more: it was stopped (`said`), or its end was `seen`."""
        return await self._say("ended", {"epoch": epoch, "how": how, "detail": detail})

    async def fenced(self, epoch: int, attempt: int, outcome: str, detail: str) -> Written:
        """What came of fencing the primary of the epoch."""
        return await self._say("fenced", {"epoch": epoch, "attempt": attempt, "outcome": outcome, "detail": detail})

    async def serving(self, epoch: int) -> Written:
        """The primary of the epoch serves."""
        return await self._say("serving", {"epoch": epoch})

    async def position(self, epoch: int, position: int) -> Written:
        """How far the member's copy reaches, at this epoch of the group."""
        return await self._say("position", {"epoch": epoch, "position": position})

    async def _say(self, verb: str, fields: dict[str, object], seconds: float | None = None) -> Written:
        return await self._write(verb, {"incarnation": self.incarnation, **fields}, seconds)

    async def _write(self, verb: str, body: dict[str, object], seconds: float | None = None) -> Written:
        # An id of its own for each word, which its retries share: one that was heard twice counts once.
        path = path_of(*self._path, verb)
        reply = await self._transport.write("POST", path, body, command_id=new_id(), timeout_seconds=seconds)
        return written_of(self._transport, WRITTEN, reply)
