"""A data node in the simulation: the real rules of ownership over dicts, and what a process forgets when it dies.

It knows of sagas only what its tasks say. What is in `disk` survives a crash, everything else does not. It acknowledges
writes only while its lease holds, counted from when it sent the renewal, and after losing it, or a restart, only once it
has compared itself with the shard map.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from domain.catalogue import Answer
from domain.saga import ReportStep
from domain.shards.keyspace import ReportDropped, ReportOpened
from domain.shards.node import JoinNode, RenewNode
from domain.shards.shard import Shard
from infra.shards import ownership
from infra.shards.record import Checkpoint, LoggedChange, ShardRecord, digest_hex, pair_digest
from muster.agent.settle import Activate, Distrust, Drop, Fence, LocalShard, Retire, correction
from muster.wire.command import Command
from muster.wire.error import (
    ChecksumMismatch,
    DataUnavailable,
    MusterError,
    ReadFailed,
    Refused,
    ShardNotFound,
    StaleEpoch,
    Transient,
)
from muster.wire.shards.driver import Extent, Location, ShardId, ShardLimits
from sagas.tasks import TaskRow

lease_seconds = 5.0
renew_seconds = 1.0
map_seconds = 0.5
watch_seconds = 1.0
resend_seconds = 1.0
unit_pairs = 3
lag_records_max = 1
patience_seconds = 2.0
FINAL = (ChecksumMismatch, StaleEpoch, ShardNotFound)


class MapRow(NamedTuple):
    """A shard as the map tells it."""

    owner: str | None
    epoch: int
    fenced: bool
    address: str
    migration: str | None


class World(Protocol):
    """What a node needs of the world around it."""

    now: float

    def post(self, sender: str, stream: str, command: Command, told: Callable[[Answer], None] | None = None) -> None:
        """Send a command to the controller; the answer may come, or not."""

    def tasks(self, node: str) -> list[TaskRow]:
        """The node's tasks as the controller tells them now; none while it cannot be reached."""

    def shard(self, shard: ShardId) -> Shard:
        """The shard as the log has it now: a strong read. Raises DataUnavailable."""

    def peer(self, node: str) -> "DataNode":
        """Another node. Raises ReadFailed when it is down."""

    def works_on(self, node: str, task: TaskRow) -> bool:
        """The node is about to work on the task; false: something happens to it instead."""

    def worked_on(self, node: str, task: TaskRow) -> bool:
        """The node has done the task and is about to say so; false: something happens to it instead."""


@dataclass
class Copy:
    """A copy of a shard on a disk."""

    pairs: dict[str, bytes] = field(default_factory=dict)
    changes: list[LoggedChange] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)


@dataclass
class Disk:
    """What survives."""

    records: dict[ShardId, ShardRecord] = field(default_factory=dict)
    copies: dict[int, Copy] = field(default_factory=dict)
    numbers: int = 0


class DataNode:
    """One node. `turn` is a moment of its life; `write` is what clients do, the other methods what drivers do."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.disk = Disk()
        self.cut_off = False
        self.runs = 0
        self.up_at: float | None = 0.0
        self.up = False

    # Life

    def start(self) -> None:
        """A new process on the same disk."""
        self.up, self.up_at = True, None
        self.runs += 1
        self.incarnation: int | None = None
        self.lease_until = -1.0
        self.compared = False
        self.compare_at = 0.0
        self.hears_at = self.world.now + watch_seconds
        self.renewed_at = -renew_seconds
        self.answers: dict[str, tuple[float, str, Command]] = {}
        self.troubled: dict[str, float] = {}
        self.snapshots: dict[ShardId, list[tuple[str, bytes]]] = {}
        self.following: dict[ShardId, str] = {}

    def crash(self, seconds: float | None = 1.0) -> None:
        """The process is gone; another one comes after so many seconds (None: never)."""
        self.up = False
        self.up_at = None if seconds is None else self.world.now + seconds

    def turn(self) -> None:
        """Renew the lease, work on what is wanted, say what was done."""
        if not self.up:
            if self.up_at is not None and self.world.now >= self.up_at:
                self.start()
            return
        self._stay()
        self._compare()
        for shard, source in list(self.following.items()):
            self._quietly(lambda shard=shard, source=source: self._follow(shard, source))
        if self.cut_off:
            self.hears_at = self.world.now + watch_seconds
        for task in self.world.tasks(self.name) if self.world.now >= self.hears_at else ():
            self._work(task)
            if not self.up:
                return

    def serves(self, shard: ShardId) -> bool:
        """Whether it would acknowledge a write now."""
        record = self.disk.records.get(shard)
        return self._may_answer() and record is not None and record.state == "serving"

    def _may_answer(self) -> bool:
        return self.up and self.compared and self.world.now < self.lease_until

    def _stay(self) -> None:
        if self.world.now - self.renewed_at < renew_seconds:
            return
        sent_at = self.renewed_at = self.world.now
        run = self.runs
        if self.incarnation is None:
            command: Command = JoinNode(
                node=self.name,
                address=f"{self.name}:7400",
                lease_seconds=lease_seconds,
                process=f"{self.name}-{self.runs}",
                store=self.name,
            )
        else:
            command = RenewNode(node=self.name, incarnation=self.incarnation)

        def told(answer: Answer) -> None:
            if not self.up or self.runs != run:
                return
            if answer.error is not None:
                self.incarnation = None
                return
            if isinstance(command, JoinNode):
                self.incarnation = answer.incarnation
            if answer.status == "accepted" or self.world.now >= self.lease_until:
                self.compared, self.compare_at = False, self.world.now + map_seconds
            self.lease_until = max(self.lease_until, sent_at + lease_seconds)

        self.world.post(self.name, "cluster", command, told)

    def _compare(self) -> None:
        """Make every shard here what the map says, before anything is acknowledged."""
        if self.compared or self.incarnation is None or not self.compare_at <= self.world.now < self.lease_until:
            return
        try:
            told = {shard: self.world.shard(shard) for shard in self.disk.records}
        except DataUnavailable:
            return
        for shard, found in told.items():
            self._compare_one(shard, self.disk.records[shard], found)
        self.compared = True

    def _compare_one(self, shard: ShardId, record: ShardRecord, told: Shard) -> None:
        row = MapRow(told.owner, told.epoch, told.fenced, f"{told.owner}:7400", told.migration)
        match correction(LocalShard(shard, record.epoch, record.state), self.name, row):
            case Fence(epoch):
                self.fence(shard, epoch)
            case Activate(epoch):
                self._quietly(lambda: self.activate(shard, epoch, record.limits))
            case Retire(epoch, owner):
                self.retire(shard, epoch, owner.node)
            case Drop(epoch):
                self._quietly(lambda: self.drop(shard, epoch))
            case Distrust(epoch):
                raise AssertionError(f"{self.name} serves {shard} with epoch {epoch}, which the map cannot explain")

    def _quietly(self, act: Callable[[], Any]) -> None:
        with suppress(Refused, Transient):
            act()

    # Work

    def _work(self, task: TaskRow) -> None:
        name = f"{task.id}/{task.kind}"
        if name not in self.answers:
            if not self.world.works_on(self.name, task):
                return
            try:
                result = self._done(task)
            except MusterError as error:
                since = self.troubled.setdefault(name, self.world.now)
                if task.saga is None or (isinstance(error, Transient) and self.world.now - since < patience_seconds):
                    return
                detail = f"{error.name}: {error.detail}"
                answer = self._said(task, "failed", error=detail, final=isinstance(error, FINAL))
            else:
                if result is None:
                    return
                answer = self._said(task, "done", result=result)
            if not self.world.worked_on(self.name, task):
                return
            self.answers[name] = (-resend_seconds, *answer)
        sent_at, stream, command = self.answers[name]
        if self.world.now - sent_at >= resend_seconds:
            self.answers[name] = (self.world.now, stream, command)
            self.world.post(self.name, stream, command)

    def _said(self, task: TaskRow, outcome: Any, **more: Any) -> tuple[str, Command]:
        if task.saga is not None and task.step is not None:
            step, attempt = task.step, task.attempt
            return task.saga, ReportStep(step=step, attempt=attempt, node=self.name, outcome=outcome, **more)
        stream = f"keyspace/{task.keyspace}"
        if task.kind == "open":
            return stream, ReportOpened(shard=task.shard, node=self.name, epoch=task.params["epoch"])
        return stream, ReportDropped(shard=task.shard, node=self.name, migration=task.params["migration"])

    def _done(self, task: TaskRow) -> dict[str, Any] | None:
        """The result, or None when there is more to do."""
        shard, epoch, params = ShardId(task.keyspace, task.shard), task.params["epoch"], task.params
        limits = ShardLimits(**params["limits"]) if "limits" in params else ShardLimits()
        match task.kind:
            case "open":
                self._decide(shard, lambda record: ownership.opened(record, shard, epoch, limits, self._fresh()))
            case "fence":
                self.fence(shard, epoch)
                return {"extent": asdict(self.disk.records[shard].extent)}
            case "activate":
                self.activate(shard, epoch, limits)
            case "retire":
                self.retire(shard, epoch, params["owner"])
            case "drop":
                self.drop(shard, epoch)
            case "prepare":
                self.snapshots.pop(shard, None)
                self._decide(shard, lambda record: ownership.prepared(record, shard, epoch, self._fresh()))
            case "copy":
                return self._pull(shard, params["source"])
            case "catch_up":
                return self._catch_up(shard, params["source"])
            case "verify":
                return self._verify(shard, params["source"])
            case "drain":
                return self._drain(shard, params["source"], params["final"], epoch - 1)
        return {}

    # What the holder does

    def write(self, shard: ShardId, epoch: int, key: str, value: bytes | None, write_id: str) -> int:
        """As a client: the epoch with which the write was acknowledged. Raises NotOwner, StaleEpoch, DataUnavailable."""
        if not self._may_answer():
            raise DataUnavailable(f"{self.name} cannot serve now")
        record = ownership.check_serves(self.disk.records.get(shard), shard, epoch, self._here())
        copy = self.disk.copies[record.copy]
        if write_id not in copy.ids:
            self._apply(shard, record, LoggedChange(record.position + 1, key, value, write_id, 0))
        return record.epoch

    def fence(self, shard: ShardId, epoch: int) -> None:
        """Stop."""
        self._decide(shard, lambda record: ownership.fenced(record, shard, epoch))

    def activate(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """Serve."""
        self._decide(shard, lambda record: ownership.activated(record, shard, epoch, limits))
        self.following.pop(shard, None)

    def drop(self, shard: ShardId, epoch: int) -> None:
        """Let go of the copy."""
        self.following.pop(shard, None)
        self.snapshots.pop(shard, None)
        self._decide(shard, lambda record: ownership.dropped(record, shard, epoch))

    def retire(self, shard: ShardId, epoch: int, owner: str) -> None:
        """Send everybody to the owner."""
        location = Location(owner, f"{owner}:7400")
        self._decide(shard, lambda record: ownership.retired(record, shard, epoch, location))

    def snapshot(self, shard: ShardId) -> tuple[int, list[tuple[str, bytes]], dict[str, int]]:
        """The position, the pairs in key order, and the write ids: as of now."""
        record = self._given(shard)
        copy = self.disk.copies[record.copy]
        return record.position, sorted(copy.pairs.items()), dict(copy.ids)

    def tail(self, shard: ShardId, after: int) -> tuple[list[LoggedChange], ShardRecord]:
        """The changes behind the position, and the shard as it stands."""
        record = self._given(shard)
        return self.disk.copies[record.copy].changes[after : after + unit_pairs], record

    def digest_at(self, shard: ShardId, position: int) -> int:
        """What the digest was behind the change of this number."""
        record = self._given(shard)
        changes = self.disk.copies[record.copy].changes
        if position > len(changes):
            raise ReadFailed(f"{shard} ends at {len(changes)}")
        return changes[position - 1].digest if position else 0

    def _given(self, shard: ShardId) -> ShardRecord:
        return ownership.check_serves(self.disk.records.get(shard), shard, 0, self._here(), fenced=True)

    # What the receiver does

    def _pull(self, shard: ShardId, source: str) -> dict[str, Any] | None:
        record = self._hidden(shard)
        copy, checkpoint = self.disk.copies[record.copy], record.checkpoint
        if checkpoint is not None and checkpoint.done:
            return self._extent(shard)
        if shard not in self.snapshots:
            position, pairs, ids = self.world.peer(source).snapshot(shard)
            self.snapshots[shard] = pairs
            if checkpoint is None:
                copy.ids = ids
                checkpoint = Checkpoint(position, position, "", False)
            else:
                checkpoint = replace(checkpoint, newest=position)
        assert checkpoint is not None
        rest = [pair for pair in self.snapshots[shard] if pair[0] > checkpoint.last_key]
        for key, value in rest[:unit_pairs]:
            record = _set(record, copy, key, value)
            checkpoint = replace(checkpoint, last_key=key)
        if len(rest) <= unit_pairs:
            checkpoint = replace(checkpoint, done=True)
            record = replace(record, position=checkpoint.first)
            del self.snapshots[shard]
        self.disk.records[shard] = replace(record, checkpoint=checkpoint)
        return self._extent(shard) if checkpoint.done else None

    def _follow(self, shard: ShardId, source: str) -> ShardRecord:
        """Take over some of the source's changes; the source's record."""
        record = self._hidden(shard)
        if record.checkpoint is None or not record.checkpoint.done:
            raise ChecksumMismatch(f"{shard} has not been copied yet")
        changes, theirs = self.world.peer(source).tail(shard, record.position)
        for change in changes:
            self._apply(shard, self.disk.records[shard], change)
        return theirs

    def _catch_up(self, shard: ShardId, source: str) -> dict[str, Any] | None:
        theirs = self._follow(shard, source)
        self.following[shard] = source
        behind = theirs.position - self.disk.records[shard].position
        return self._extent(shard) if behind <= lag_records_max else None

    def _verify(self, shard: ShardId, source: str) -> dict[str, Any] | None:
        record = self._hidden(shard)
        if record.checkpoint is None or record.position < record.checkpoint.newest:
            self._follow(shard, source)
            return None
        read = sum(pair_digest(key.encode(), value) for key, value in self.disk.copies[record.copy].pairs.items())
        if read % (1 << 128) != self.world.peer(source).digest_at(shard, record.position):
            raise ChecksumMismatch(f"the copy of {shard} is not what {source} has")
        return self._extent(shard)

    def _drain(self, shard: ShardId, source: str, final: dict[str, Any] | None, epoch: int) -> dict[str, Any] | None:
        if self.disk.records[shard].state == "serving":
            return self._extent(shard)
        theirs = self._follow(shard, source)
        mine = self.disk.records[shard]
        if theirs.state != "fenced" or theirs.epoch < epoch or mine.position < theirs.position:
            return None
        if final is not None and (final["position"], final["digest"]) != (mine.position, digest_hex(mine.digest)):
            raise ChecksumMismatch(f"{shard} ended otherwise than {source} said")
        self.following.pop(shard, None)
        return self._extent(shard)

    # The disk

    def _hidden(self, shard: ShardId) -> ShardRecord:
        record = self.disk.records.get(shard)
        if record is None or record.state != "hidden":
            raise ownership.not_owner(record or ShardRecord("retired", 0), shard)
        return record

    def _extent(self, shard: ShardId) -> dict[str, Any]:
        extent: Extent = self.disk.records[shard].extent
        return {"extent": asdict(extent)}

    def _here(self) -> Location:
        return Location(self.name, f"{self.name}:7400")

    def _fresh(self) -> int:
        self.disk.numbers += 1
        return self.disk.numbers

    def _decide(self, shard: ShardId, verb: Callable[[ShardRecord | None], ShardRecord | None]) -> None:
        before = self.disk.records.get(shard)
        after = verb(before)
        if after is None or after is before:
            return
        if before is not None and before.copy and before.copy != after.copy:
            del self.disk.copies[before.copy]
        if after.copy:
            self.disk.copies.setdefault(after.copy, Copy())
        self.disk.records[shard] = after

    def _apply(self, shard: ShardId, record: ShardRecord, change: LoggedChange) -> None:
        copy = self.disk.copies[record.copy]
        record = replace(_set(record, copy, change.key, change.value), position=change.position)
        while len(copy.changes) < change.position - 1:
            # What came before the snapshot: nobody asks for it.
            copy.changes.append(LoggedChange(len(copy.changes) + 1, "", None, "", 0))
        copy.changes.append(change._replace(digest=record.digest))
        copy.ids[change.write_id] = change.position
        self.disk.records[shard] = record


def _set(record: ShardRecord, copy: Copy, key: str, value: bytes | None) -> ShardRecord:
    """The pair as it is to be (None: gone), and the digest behind it."""
    before = copy.pairs.pop(key, None)
    digest = record.digest - (pair_digest(key.encode(), before) if before is not None else 0)
    if value is not None:
        copy.pairs[key] = value
        digest += pair_digest(key.encode(), value)
    return replace(record, digest=digest % (1 << 128), records=len(copy.pairs))
