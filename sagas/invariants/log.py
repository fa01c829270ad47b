"""The invariants of moves, checked on the log: a fold that says of every event what it breaks.

Kept apart from the folds that it checks: it has books of its own, and believes no event. The numbers are the design's.

    I1   a shard has one owner per epoch, and epochs grow one by one
    I4   a target comes to own a shard by its move's commit only, which is recorded together with the saga's own event
    I5   no commit without the fence's answer, or an attested silence of who did not answer
    I6   a saga ends, or stands blocked; no shard stays fenced
    I7   no way back behind the pivot, and no step forward on the way back
    I8   what was done is undone in reverse order
    I9   a shard has one move at a time, and slots stay within their limits
    I11  what is made on a node has an intent to clean it up before, and nothing is called clean that was not cleaned
    I14  nothing counts twice

Events are taken in the order of their partition. What spans partitions can only be owed, and is told by `owed`.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from domain import saga as s
from domain.message import Event, Recorded
from domain.shards import node as n
from domain.shards import shard as k
from muster.wire.stream import root_of
from sagas.catalogue import DEFINITIONS
from sagas.engine.definition import Definition, Definitions
from sagas.shard_migration import NAME as MIGRATION

_SHARD_EVENTS: Final = (k.ShardsAssigned, k.ShardEvent)
_SLOT_EVENTS: Final = (n.MoveLimitsChanged, n.SlotsQueued, n.SlotsGranted, n.SlotsReleased)


class _Course:
    """How far a saga has come."""

    def __init__(self, started: s.SagaStarted, definition: Definition | None) -> None:
        self.name = started.definition
        self.data = started.data
        self.definition = definition
        self.step: str | None = started.step
        self.attempt = 1
        self.results: dict[str, s.Facts] = {}
        self.turned = False
        self.passed = False
        self.blocked = False
        self.undo: tuple[str, ...] = ()


class _Shard:
    """Who owns a shard, and who moves it."""

    def __init__(self) -> None:
        self.epoch = 0
        self.owner: str | None = None
        self.fenced = False
        self.migration: str | None = None


class Invariants:
    """`take` says what an event breaks, `owed` what the log still owes when it has been read to its end."""

    def __init__(self, definitions: Definitions = DEFINITIONS) -> None:
        self._definitions = definitions
        self._versions: dict[str, int] = {}
        self._shards: dict[tuple[str, int], _Shard] = {}
        self._intents: dict[tuple[str, int, str], tuple[str, bool]] = {}
        self._courses: dict[str, _Course] = {}
        self._over: set[str] = set()
        self._slots: dict[str, frozenset[str]] = {}
        self._waiting: set[str] = set()
        self._limits = (1, 4)
        self._away: dict[str, bool] = {}
        self._attested: set[tuple[str, str]] = set()
        self._silent: dict[str, str] = {}
        self._unpaired: dict[int, tuple[str, str]] = {}

    def take(self, recorded: Recorded) -> list[str]:
        """What the event breaks; nothing, as it should be."""
        where = f"{recorded.partition}@{recorded.position} {recorded.stream}: "
        return [f"{where}{breach}" for breach in self._taken(recorded)]

    def owed(self) -> list[str]:
        """What is still to come: sagas that go on, clean-ups, slots of sagas that have ended, silences never attested."""
        alone = [f"I4 {migration}: its commit stands alone" for _, migration in self._unpaired.values()]
        going = [f"I6 {id_} is at {saga.step}" for id_, saga in self._courses.items() if not saga.blocked]
        due = [
            f"I11 {keyspace}/{shard} is to be cleaned up on {node}"
            for (keyspace, shard, node), (_, due) in self._intents.items()
            if due
        ]
        kept = [f"I9 {id_} has ended, but holds slots" for id_ in self._slots if id_ in self._over]
        silent = [
            f"I5 {id_} relied on the silence of {node}, which nobody has attested"
            for id_, node in self._silent.items()
            if (id_, node) not in self._attested
        ]
        return [*alone, *going, *due, *kept, *silent]

    def _taken(self, recorded: Recorded) -> Iterator[str]:
        event, stream = recorded.event, recorded.stream
        expected = self._versions.get(stream, -1) + 1
        if recorded.version != expected:
            yield f"I14 version {recorded.version} where {expected} was due"
        self._versions[stream] = recorded.version
        unpaired = self._unpaired.get(recorded.partition)
        if unpaired is not None and unpaired[0] != recorded.command_id:
            del self._unpaired[recorded.partition]
            yield f"I4 {unpaired[1]}: its commit stands alone"
        if isinstance(event, _SHARD_EVENTS):
            yield from self._shard_event(stream, event, recorded)
        elif isinstance(event, _SLOT_EVENTS):
            yield from self._slot_event(event)
        elif isinstance(event, n.NodeEvent):
            yield from self._node_event(event)
        elif isinstance(event, s.SagaStarted):
            if stream in self._courses or stream in self._over:
                yield "I14 the saga started twice"
            self._courses[stream] = _Course(event, self._definitions.get((event.definition, event.version)))
        elif isinstance(event, s.EVENTS):
            yield from self._saga_event(stream, event, recorded)

    def _shard_event(self, stream: str, event: Event, recorded: Recorded) -> Iterator[str]:
        if isinstance(event, k.ShardsAssigned):
            for number in event.shards:
                shard = self._shard(stream, number)
                if shard.epoch:
                    yield f"I1 shard {number} was assigned to {event.node}, but is {shard.owner}'s"
                shard.epoch, shard.owner = 1, event.node
            return
        assert isinstance(event, k.ShardEvent)
        shard = self._shard(stream, event.shard)
        match event:
            case k.ShardOpened():
                if (shard.owner, shard.epoch) != (event.node, event.epoch):
                    yield f"I4 {event.node} opened shard {event.shard} of {shard.owner} with epoch {event.epoch}"
            case k.ShardMoveStarted():
                if shard.migration is not None:
                    yield f"I9 shard {event.shard} is moved by {shard.migration} and by {event.migration}"
                if (shard.owner, shard.epoch) != (event.source, event.epoch):
                    yield f"I1 {event.migration} starts from {event.source}/{event.epoch}, not from the shard's owner"
                shard.migration = event.migration
            case k.CleanupIntended():
                self._intents[stream, event.shard, event.node] = (event.migration, False)
            case k.CleanupDone() | k.CleanupAbandoned():
                if self._intents.pop((stream, event.shard, event.node), ("", False))[1] is False:
                    yield f"I11 shard {event.shard} was not to be cleaned up on {event.node}"
            case k.ShardFenced() | k.ShardMoved() | k.ShardReclaimed() | k.ShardMoveEnded():
                if shard.migration != event.migration:
                    yield f"I9 shard {event.shard} is moved by {shard.migration}, not by {event.migration}"
                yield from self._moved(stream, shard, event, recorded)

    def _moved(self, stream: str, shard: _Shard, event: k.ShardEvent, recorded: Recorded) -> Iterator[str]:
        match event:
            case k.ShardFenced():
                if event.epoch != shard.epoch or shard.fenced:
                    yield f"I1 a fence at epoch {event.epoch} of shard {event.shard}, which is at {shard.epoch}"
                shard.fenced = True
            case k.ShardMoved() | k.ShardReclaimed():
                if not shard.fenced:
                    yield f"I5 shard {event.shard} changed its epoch without a fence"
                if event.epoch != shard.epoch + 1:
                    yield f"I1 the epoch of shard {event.shard} went from {shard.epoch} to {event.epoch}"
                if isinstance(event, k.ShardReclaimed) and event.owner != shard.owner:
                    yield f"I1 shard {event.shard} was given back to {event.owner}, but was {shard.owner}'s"
                if isinstance(event, k.ShardMoved):
                    yield from self._committed(stream, shard, event, recorded)
                shard.epoch, shard.owner, shard.fenced = event.epoch, event.owner, False
            case k.ShardMoveEnded():
                yield from self._ended(stream, shard, event)
                shard.migration = None

    def _committed(self, stream: str, shard: _Shard, event: k.ShardMoved, recorded: Recorded) -> Iterator[str]:
        self._unpaired[recorded.partition] = (recorded.command_id, event.migration)
        course = self._courses.get(event.migration)
        fence = course.results.get("fence") if course is not None else None
        if fence is None:
            yield f"I5 shard {event.shard} was moved without an answer to its fence"
        elif "extent" not in fence:
            self._silent[event.migration] = str(fence.get("silent"))
        if event.was != shard.owner:
            yield f"I1 shard {event.shard} was moved from {event.was}, but was {shard.owner}'s"
        self._intents.pop((stream, event.shard, event.owner), None)
        self._intents[stream, event.shard, event.was] = (event.migration, False)

    def _ended(self, stream: str, shard: _Shard, event: k.ShardMoveEnded) -> Iterator[str]:
        if shard.fenced:
            yield f"I6 shard {event.shard} is left fenced"
        left = [place for place, (id_, _) in self._intents.items() if id_ == event.migration and place[0] == stream]
        course = self._courses.get(event.migration)
        results = course.results if course is not None else {}
        cleaned = results.get("clean" if event.outcome == "completed" else "discard")
        if left and event.cleaned and (cleaned is None or "removed" in cleaned):
            yield f"I11 {event.migration} says that it left nothing behind on {left[0][2]}, but nobody cleaned up there"
        for place in left:
            if event.cleaned:
                del self._intents[place]
            else:
                self._intents[place] = (event.migration, True)

    def _slot_event(self, event: Event) -> Iterator[str]:
        match event:
            case n.MoveLimitsChanged():
                self._limits = (event.node_moves_max, event.cluster_moves_max)
            case n.SlotsQueued():
                self._waiting.add(event.saga)
            case n.SlotsReleased():
                self._waiting.discard(event.saga)
                self._slots.pop(event.saga, None)
            case n.SlotsGranted():
                if event.saga not in self._waiting:
                    yield f"I14 {event.saga} was granted slots that it did not wait for"
                self._waiting.discard(event.saga)
                self._slots[event.saga] = frozenset((event.source, event.target))
                used = Counter(node for nodes in self._slots.values() for node in nodes)
                for node in self._slots[event.saga]:
                    if used[node] > self._limits[0]:
                        yield f"I9 {node} takes part in {used[node]} moves at a time, not in {self._limits[0]}"
                if len(self._slots) > self._limits[1]:
                    yield f"I9 {len(self._slots)} moves at a time, not {self._limits[1]}"

    def _node_event(self, event: n.NodeEvent) -> Iterator[str]:
        match event:
            case n.NodeJoined() | n.NodeRejoined() | n.NodeReturned():
                self._away[event.node] = False
            case n.NodeLost() | n.NodeRemoved():
                self._away[event.node] = True
            case n.NodeSilenceAttested():
                if not self._away.get(event.node, True):
                    yield f"I5 the silence of {event.node} was attested to {event.saga}, but its lease holds"
                self._attested.add((event.saga, event.node))

    def _saga_event(self, stream: str, event: Event, recorded: Recorded) -> Iterator[str]:
        course = self._courses.get(stream)
        if course is None:
            yield f"I14 {event.type} of a saga that " + ("has ended" if stream in self._over else "never started")
            return
        match event:
            case s.StepSucceeded() | s.StepSkipped():
                yield from self._stepped(stream, course, event, recorded)
            case s.StepFailed() | s.StepStalled() | s.SagaBlocked():
                if (event.step, event.attempt) != (course.step, course.attempt):
                    yield f"I14 {event.step}/{event.attempt}, but the saga is at {course.step}/{course.attempt}"
                course.blocked = course.blocked or isinstance(event, s.SagaBlocked)
            case s.StepRetried():
                if (event.step, event.attempt) != (course.step, course.attempt + 1):
                    yield f"I14 {event.step}/{event.attempt} follows {course.step}/{course.attempt}"
                course.attempt, course.blocked = event.attempt, False
            case s.CompensationStarted():
                yield from _turned(course, event)
            case s.SagaUpgraded():
                course.definition = self._definitions.get((course.name, event.version))
            case s.SagaCompleted() | s.SagaCompensated():
                yield from self._closed(stream, course, isinstance(event, s.SagaCompensated))

    def _stepped(
        self, stream: str, course: _Course, event: s.StepSucceeded | s.StepSkipped, recorded: Recorded
    ) -> Iterator[str]:
        attempt = event.attempt if isinstance(event, s.StepSucceeded) else course.attempt
        if (event.step, attempt) != (course.step, course.attempt):
            yield f"I14 {event.step}/{attempt} is done, but the saga is at {course.step}/{course.attempt}"
        if isinstance(event, s.StepSucceeded):
            course.results[event.step] = event.result
        definition = course.definition
        if course.turned:
            if event.step != next(iter(course.undo), None) or event.next != next(iter(course.undo[1:]), None):
                yield f"I8 {event.step} is undone out of turn: {course.undo}"
            course.undo = course.undo[1:]
        elif definition is not None:
            if event.next != definition.after(event.step):
                yield f"I7 {event.next} does not follow {event.step}"
            course.passed = course.passed or definition.step(event.step).pivot
        if course.name == MIGRATION:
            yield from self._milestone(stream, course, event, recorded)
        course.step, course.attempt, course.blocked = event.next, 1, False

    def _milestone(self, stream: str, course: _Course, event: Event, recorded: Recorded) -> Iterator[str]:
        assert isinstance(event, s.StepSucceeded | s.StepSkipped)
        match event.step:
            case "commit":
                if self._unpaired.pop(recorded.partition, None) != (recorded.command_id, stream):
                    yield "I4 the saga says that it committed, but its shard was not moved with it"
            case "prepare":
                if (root_of(stream), course.data["shard"], course.data["target"]) not in self._intents:
                    yield "I11 a copy was prepared without the intent to clean it up"

    def _closed(self, stream: str, course: _Course, compensated: bool) -> Iterator[str]:
        if course.step is not None or course.undo:
            yield f"I6 it has ended at {course.step}, with {course.undo} to be undone"
        if compensated != course.turned:
            yield "I7 it has ended in another direction than it went"
        shard = self._shards.get((root_of(stream), course.data.get("shard", -1)))
        if shard is not None and shard.migration == stream:
            yield f"I9 it has ended, but keeps shard {course.data['shard']}"
        del self._courses[stream]
        self._over.add(stream)

    def _shard(self, stream: str, number: int) -> _Shard:
        return self._shards.setdefault((stream, number), _Shard())


def _turned(course: _Course, event: s.CompensationStarted) -> Iterator[str]:
    if course.passed:
        yield "I7 it turned back behind its pivot"
    if course.turned:
        yield "I7 it turned back twice"
    if course.definition is not None:
        scopes = [course.definition.undoing(event.step, tried=tried) for tried in (True, False)]
        if event.undo not in scopes:
            yield f"I8 {event.undo} does not undo what was done, in reverse order, up to {event.step}"
    course.turned, course.undo, course.blocked = True, event.undo, False
    course.step, course.attempt = next(iter(event.undo), None), 1
