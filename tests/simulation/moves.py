"""A world of data nodes, a controller and a client that writes all the time, in which shards move and things go wrong.

Everything is drawn from one seed. After each recorded event the log's invariants hold; after each turn what is on the nodes
agrees with it: no acknowledged write is missing where the shard is owned (I3), who is fenced acknowledges nothing (I2), nobody
serves without having been given the shard (I4), and every copy is owned or has an intent (I11).
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from domain.catalogue import Answer
from domain.message import Recorded
from domain.saga import ForceComplete, ResumeSaga, RetryStep, Saga, SkipStep, StepSucceeded
from domain.shards.keyspace import CreateKeyspace, MoveShard
from domain.shards.node import RemoveNode
from domain.shards.shard import Shard, ShardMoved, ShardReclaimed, ShardsAssigned
from muster.wire.command import Command, Envelope
from muster.wire.error import DataUnavailable, NotOwner, ReadFailed, Refused, StaleEpoch, Transient
from muster.wire.shards.driver import ShardId
from sagas.catalogue import DEFINITIONS
from sagas.engine.verbs import allowed
from sagas.invariants.log import Invariants
from sagas.tasks import TaskRow
from tests.simulation.data_node import DataNode
from tests.simulation.move_controller import Crashed, MoveController

turn_seconds = 0.25
KEYSPACE = "keyspace/users"
KEYS = tuple(f"key-{number}" for number in range(7))


class Fault:
    """What goes wrong; by itself nothing does."""

    def entered(self, world: "Moves") -> None:
        """A turn begins."""

    def posted(self, world: "Moves", message: "Message") -> bool:
        """A message is sent; false: the fault has taken it."""
        return True

    def delivered(self, world: "Moves", message: "Message") -> None:
        """A message is about to arrive."""

    def recording(self, recorded: list[Recorded]) -> str:
        """A batch is about to be recorded: "record" it, "lose" it and die, or record it and "die"."""
        return "record"

    def works_on(self, world: "Moves", node: str, task: TaskRow) -> bool:
        """A node is about to work on a task."""
        return True

    def worked_on(self, world: "Moves", node: str, task: TaskRow) -> bool:
        """A node has done a task, and is about to say so."""
        return True


@dataclass
class Message:
    """A command on its way to the controller."""

    due: float
    sender: str
    stream: str
    command: Command
    told: Callable[[Answer], None] | None
    id: str | None = None


@dataclass
class Write:
    """What a client asks for until it is acknowledged."""

    id: str
    key: str
    value: bytes | None


class Moves:
    """The world. `turn` lets a moment pass, `settle` lets everything come to its end."""

    def __init__(self, seed: int, fault: Fault | None = None, *, shards: int = 1, nodes: int = 2) -> None:
        self.chance = Random(seed)
        self.fault = fault or Fault()
        self.now = 0.0
        self.messages: list[Message] = []
        self.history: list[Recorded] = []
        self.invariants = Invariants()
        self.granted: set[tuple[str, int, int]] = set()
        self.stopped: dict[int, int] = {}
        self.acknowledged: dict[ShardId, dict[str, bytes | None]] = {}
        self.writing: dict[ShardId, Write] = {}
        self.route: dict[ShardId, tuple[str, int]] = {}
        self.writes = self.refusals = 0
        self.longest_pause = 0.0
        self._paused_since: dict[ShardId, float] = {}
        self.controller = MoveController(
            self._recorded, lambda recorded: self.fault.recording(recorded), self._submitted, self._observed
        )
        self.nodes = {f"n{number}": DataNode(f"n{number}", self) for number in range(1, nodes + 1)}
        for node in self.nodes.values():
            node.start()
        self.ask(KEYSPACE, CreateKeyspace(shards=shards, nodes=("n1",)))
        self.shards = [ShardId("users", number) for number in range(shards)]
        self.until(lambda: all(self.shard(shard).status == "active" for shard in self.shards))
        self.until(lambda: all(len(self.acknowledged.get(shard, {})) == len(KEYS) for shard in self.shards))

    # Time

    def turn(self) -> None:
        """A moment passes."""
        self.now = round(self.now + turn_seconds, 6)
        self.fault.entered(self)
        self._deliver()
        try:
            self.controller.pass_time(turn_seconds)
            if self.chance.random() < 0.8:
                self.controller.see()
            self.controller.drive(turn_seconds)
        except Crashed:
            pass
        nodes = list(self.nodes.values())
        self.chance.shuffle(nodes)
        for node in nodes:
            node.turn()
        for shard in self.shards:
            self._write(shard)
        self._check()

    def until(self, reached: Callable[[], bool], seconds: float = 60.0) -> None:
        """Let the time pass until something is so; it must be so within the seconds."""
        end = self.now + seconds
        while not reached():
            assert self.now < end, f"not within {seconds} s: {self.controller.sagas}"
            self.turn()

    def pass_time(self, seconds: float) -> None:
        """So much time passes."""
        end = self.now + seconds
        while self.now < end:
            self.turn()

    def settle(self) -> None:
        """All faults are over, and an operator helps where a saga is stuck: everything ends, and nothing is lost."""
        end, stuck = self.now + 1_500.0, 0.0
        while any(not self._stranded(saga) for saga in self.controller.sagas) or self._due():
            assert self.now < end, f"it never ends: {self.controller.sagas}, {self._due()}"
            self.turn()
            for saga in self.controller.sagas:
                if self._stranded(saga):
                    continue
                # Where a removed node holds a saga up behind its pivot, only an operator can say so.
                gone = not self.messages and saga.data["target"] in self.controller.views.cluster.removed
                held = "resume" in self._allowed(saga)
                if saga.standing == "blocked" or held or (gone and self.now - stuck > 20.0):
                    stuck = self.now
                    self._help(saga)
        owed = self.invariants.owed()
        assert not owed, owed
        removed = self.controller.views.cluster.removed
        written = self.writes
        lost = [shard for shard in self.shards if self.shard(shard).owner in removed]
        if not lost:
            self.until(lambda: self.writes > written + 3, 40.0)
            for shard in self.shards:
                self._check_content(self.nodes[str(self.shard(shard).owner)], shard)
        self.controller.start()
        self.controller.stop()

    def _stranded(self, saga: Saga) -> bool:
        """Whether it stands, and has to: the new owner was removed before it served, and the old one's copy is kept."""
        gone = saga.data["target"] in self.controller.views.cluster.removed
        return saga.standing == "blocked" and saga.step == "activate" and gone

    def _allowed(self, saga: Saga) -> tuple[str, ...]:
        return allowed(saga, DEFINITIONS[saga.definition, saga.definition_version])

    def _help(self, saga: Saga) -> None:
        verbs = self._allowed(saga)
        for verb in ("resume", "retry", "skip", "force-complete"):
            if verb in verbs and (verb != "retry" or self.chance.random() < 0.5):
                assert saga.step is not None
                commands: dict[str, Command] = {
                    "resume": ResumeSaga(),
                    "retry": RetryStep(),
                    "skip": SkipStep(step=saga.step),
                    "force-complete": ForceComplete(),
                }
                self.ask(saga.id, commands[verb])
                return

    def _due(self) -> list[object]:
        return [
            cleanup
            for keyspace in self.controller.views.keyspaces.values()
            for cleanup in keyspace.cleanups.values()
            if cleanup.due
        ]

    # Messages

    def post(
        self,
        sender: str,
        stream: str,
        command: Command,
        told: Callable[[Answer], None] | None = None,
        id_: str | None = None,
    ) -> None:
        """A command sets out. It arrives with the next turn, if it arrives."""
        if sender in self.nodes and self.nodes[sender].cut_off:
            return
        message = Message(self.now + turn_seconds, sender, stream, command, told, id_)
        if self.fault.posted(self, message):
            self.messages.append(message)

    def _submitted(self, envelope: Envelope, told: Callable[[Answer], None]) -> None:
        self.post("driver", envelope.stream, envelope.command, told, envelope.id)

    def _observed(self, stream: str, command: Command) -> None:
        self.fault.delivered(self, Message(self.now, "driver", stream, command, None))

    def _deliver(self) -> None:
        due = [message for message in self.messages if message.due <= self.now]
        self.messages = [message for message in self.messages if message.due > self.now]
        for message in due:
            self.fault.delivered(self, message)
            if message.sender in self.nodes and self.nodes[message.sender].cut_off:
                continue
            try:
                answer = self.controller.ask(message.stream, message.command, message.sender, message.id)
            except Crashed:
                continue
            if message.told is not None:
                message.told(answer)

    def ask(self, stream: str, command: Command) -> Answer | None:
        """What an operator asks for, at once; None: the controller died over it."""
        try:
            return self.controller.ask(stream, command)
        except Crashed:
            return None

    def move(self, shard: int = 0, target: str = "n2", **how: object) -> Answer | None:
        """Move the shard."""
        command = MoveShard(shard=shard, target=target, **{"soak_seconds": 0.5, "cleanup_seconds": 0.0, **how})
        return self.ask(KEYSPACE, command)

    def remove(self, node: str) -> None:
        """The node is dead, and an operator says that it will not come back."""
        self.nodes[node].crash(None)
        while self.ask("cluster", RemoveNode(node=node)) is None:
            pass

    # What nodes need of the world

    def tasks(self, node: str) -> list[TaskRow]:
        """The node's tasks, as the controller tells them now."""
        if self.nodes[node].cut_off:
            return []
        return [task for _, task in sorted(self.controller.views.tasks.get(node, {}).items())]

    def shard(self, shard: ShardId) -> Shard:
        """The shard as the log has it."""
        return self.controller.views.keyspace(shard.keyspace).shard(shard.shard)

    def peer(self, node: str) -> DataNode:
        """Another node."""
        if not self.nodes[node].up:
            raise ReadFailed(f"{node} does not answer")
        return self.nodes[node]

    def works_on(self, node: str, task: TaskRow) -> bool:
        """Whether the node may work on the task."""
        return self.fault.works_on(self, node, task)

    def worked_on(self, node: str, task: TaskRow) -> bool:
        """Whether the node may say that it has done the task."""
        return self.fault.worked_on(self, node, task)

    # Clients

    def _write(self, shard: ShardId) -> None:
        """One try of one write. It is tried again, with the same id, until it is acknowledged."""
        write = self.writing.get(shard)
        if write is None:
            number = len(self.acknowledged.get(shard, {}))
            key = KEYS[number] if number < len(KEYS) else self.chance.choice(KEYS)
            value = None if number >= len(KEYS) and self.chance.random() < 0.2 else b"%d" % self.writes
            write = self.writing[shard] = Write(f"w{shard.shard}-{self.writes}", key, value)
        self._paused_since.setdefault(shard, self.now)
        name, epoch = self.route.get(shard, ("n1", 0))
        try:
            node = self.nodes[name]
            if not node.up:
                raise DataUnavailable(f"{name} does not answer")
            served = node.write(shard, epoch, write.key, write.value, write.id)
        except (NotOwner, StaleEpoch, DataUnavailable, Refused, Transient):
            self.refusals += 1
            told = self.shard(shard)
            if told.owner is not None and self.chance.random() < 0.7:
                self.route[shard] = (told.owner, told.epoch)
            return
        self._acknowledge(shard, name, served, write)

    def _acknowledge(self, shard: ShardId, node: str, epoch: int, write: Write) -> None:
        told = self.shard(shard)
        assert told.owner == node, f"I3 {node} acknowledged a write of {told.owner}'s"
        assert epoch > self.stopped.get(shard.shard, 0), f"I2 {node} acknowledged at epoch {epoch}, which is fenced"
        others = [name for name, other in self.nodes.items() if name != node and other.serves(shard)]
        assert not others, f"I1 {node} and {others} serve {shard}"
        self.acknowledged.setdefault(shard, {})[write.key] = write.value
        self.longest_pause = max(self.longest_pause, self.now - self._paused_since.pop(shard))
        del self.writing[shard]
        self.writes += 1

    # Checks

    def _recorded(self, recorded: Recorded) -> None:
        self.history.append(recorded)
        breaches = self.invariants.take(recorded)
        assert not breaches, breaches
        event = recorded.event
        match event:
            case ShardsAssigned():
                self.granted |= {(event.node, number, 1) for number in event.shards}
            case ShardMoved() | ShardReclaimed():
                self.granted.add((event.owner, event.shard, event.epoch))
                if isinstance(event, ShardMoved):
                    self._check_content(self.nodes[event.owner], ShardId("users", event.shard))
            case StepSucceeded(step="fence"):
                data = self.controller.views.sagas[recorded.stream].data
                self.stopped[data["shard"]] = data["epoch"]

    def _check(self) -> None:
        keyspace, removed = self.controller.views.keyspace("users"), self.controller.views.cluster.removed
        for name, node in self.nodes.items():
            if name in removed:
                continue
            for shard, record in node.disk.records.items():
                if record.state == "serving":
                    given = (name, shard.shard, record.epoch)
                    assert given in self.granted, f"I4 {name} serves {shard} with epoch {record.epoch}"
                if record.copy:
                    owned = keyspace.shard(shard.shard).owner == name
                    intended = (shard.shard, name) in keyspace.cleanups
                    assert owned or intended, f"I11 {name} holds {shard}, but neither owns it nor has to clean it up"
        for shard in self.shards:
            told = self.shard(shard)
            owner = self.nodes.get(str(told.owner))
            if owner is not None and owner.serves(shard):
                self._check_content(owner, shard)

    def _check_content(self, node: DataNode, shard: ShardId) -> None:
        """I3: each key has its last acknowledged value, or that of the write under way."""
        record = node.disk.records.get(shard)
        held = node.disk.copies[record.copy].pairs if record is not None and record.copy else {}
        under_way = self.writing.get(shard)
        for key, value in self.acknowledged.get(shard, {}).items():
            may = {value, under_way.value} if under_way is not None and under_way.key == key else {value}
            assert held.get(key) in may, f"I3 {key} of {shard} is {held.get(key)!r} on {node.name}, not {value!r}"
        strangers = held.keys() - self.acknowledged.get(shard, {}).keys() - {under_way.key if under_way else ""}
        assert not strangers, f"I3 {node.name} holds {strangers} of {shard}, which nobody wrote"
