"""The partition machine: commands in, one batch of events and the answers out. Pure and synchronous.

    recover   `fold` whole batches of the log
    reign     `begin` (arm what can run out), then group by group: `open` · `handle`… · `close` · `commit` or `rollback`

States are values, so a rollback puts back the references that the group replaced. Answers may leave only after
`commit`, that is, after the batch (or a beat) that began behind the decision was acknowledged.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from eventsourcing.persistence import StoredEvent

from domain.catalogue import Answer
from domain.message import Recorded
from domain.saga import Saga
from infra.log.codec import CloudEventMapper, Draft, command_hashes, commands_offset
from infra.log.port import START, Batch, Cursor
from muster.wire.command import Command, Envelope
from muster.wire.error import Corrupt, IdempotencyConflict, Refused, TooLarge, VersionConflict
from muster.wire.stream import SAGA, SERVICE, kind_of
from workers.machine.aggregate import AGGREGATES, Aggregate, Aggregates, Placed, incarnation_behind, inside_id
from workers.machine.command_ids import CommandIds, content_hash, packed_acceptance
from workers.machine.deadlines import Deadlines, Subject

record_overhead_bytes: Final = 800
"""An upper bound for a record's envelope, names of ordinary length assumed; the batch limit leaves room for more."""

recent_answers_max: Final = 10_000
expiries_group_max: Final = 200
ended_sagas_max: Final = 10_000
begin_items_max: Final = 500
_new: Final = tuple.__new__
_BEGINNING: Final = datetime.fromtimestamp(0, UTC)


Folded = tuple[Recorded, Any]
"""An event, and the part of the state that it is about as it stands behind it: an `Instance` (None: gone), a `DataNode`, the
whole `Keyspace` or `Saga`; see `workers.machine.aggregate`.
"""


class GroupFull(Exception):
    """The command's events do not fit into this group any more; they will into the next one."""


@dataclass(slots=True)
class Group:
    """Commands decided together: what they record, and what rollback needs."""

    at: datetime
    position: int
    commands_offset: int | None
    drafts: list[Draft] = field(default_factory=list)
    folded: list[Folded] = field(default_factory=list)
    bytes: int = 0
    before: dict[str, Any] = field(default_factory=dict)
    touched: dict[Subject, tuple[Aggregate, Any]] = field(default_factory=dict)
    timed: dict[Subject, None] = field(default_factory=dict)
    renewed: list[tuple[Subject, Callable[[Any], bool]]] = field(default_factory=list)
    answers: dict[str, tuple[Answer, str]] = field(default_factory=dict)


class Partition:
    """One partition's decider state. `batch_bytes_max` and `batch_records_max` bound one batch; `aggregates` says what can be
    decided here, and which sagas there are.
    """

    def __init__(
        self,
        number: int,
        mapper: CloudEventMapper,
        aggregates: Aggregates = AGGREGATES,
        *,
        batch_bytes_max: int = 900_000,
        batch_records_max: int = 2_000,
        ids_max: int = 200_000,
    ) -> None:
        self.number = number
        self.cursor: Cursor = START
        self.commands_offset: int | None = None
        self.streams: dict[str, Any] = {}
        self.ids = CommandIds(number, ids_max)
        self._ended: deque[str] = deque()
        self._recent: deque[str] = deque(maxlen=recent_answers_max)
        self.deadlines = Deadlines()
        self.last_at = _BEGINNING
        self._mapper = mapper
        self._aggregates = aggregates
        self._of_event, self._of_command = aggregates.of_event, aggregates.of_command
        self._batch_bytes_max = batch_bytes_max
        self._batch_records_max = batch_records_max
        self._group: Group | None = None

    def fold(self, batch: Batch) -> list[Folded]:
        """Take a batch of the log into the state; its events, each with what it is about as it stands behind it.

        Raises Corrupt where one cannot be decoded, or is impossible; the state is then as it was before the batch.
        """
        streams = self.streams
        before: dict[str, Any] = {}
        folded: list[Folded] = []
        for recorded in self._mapper.events(self.number, batch):
            stream = recorded.stream
            kind = self._of_event[type(recorded.event)]
            was = streams.get(stream)
            before.setdefault(stream, was)
            try:
                state, part = kind.fold(kind.initial if was is None else was, recorded)
            except AssertionError as error:
                self._put_back(before)
                raise self._impossible(recorded, str(error)) from error
            streams[stream] = state
            folded.append((recorded, part))
            if kind.kind == SAGA and state.ended:
                self._forget(stream)
        if folded:
            self._remember(batch, folded)
            self.last_at = max(self.last_at, folded[-1][0].at)
        self.cursor = batch.cursor
        return folded

    def _remember(self, batch: Batch, folded: Sequence[Folded]) -> None:
        """The answers of the commands that the batch recorded, each with what it was about as it stood behind its last event."""
        accepted: dict[str, bytes] = {}
        for content, (recorded, part) in zip(command_hashes(batch), folded, strict=True):
            if content is not None:
                incarnation = incarnation_behind(recorded, part)
                packed = packed_acceptance(content, recorded.position, recorded.version, incarnation)
                accepted[recorded.command_id] = packed  # Of a command's events the last one stays.
        self.ids.accepted(accepted, folded[0][0].at)
        self._recent.extend(accepted)
        offset = commands_offset(batch)
        if offset is not None:
            self.commands_offset = offset

    def _forget(self, stream: str) -> None:
        """Nothing can happen to a saga that has ended: only the newest of them are kept, for late callers."""
        self._ended.append(stream)
        while len(self._ended) > ended_sagas_max:
            self.streams.pop(self._ended.popleft(), None)

    def restored(self) -> None:
        """The states were filled from a snapshot."""
        self._ended.extend(stream for stream, state in self.streams.items() if isinstance(state, Saga) and state.ended)

    def recent(self) -> list[Answer]:
        """The answers to the newest `recent_answers_max` commands that were read from the log, oldest first."""
        known = [self.ids.recall(id_) for id_ in self._recent]
        return [found[0] for found in known if found is not None]

    def _impossible(self, recorded: Recorded, reason: str) -> Corrupt:
        where = f"partition {self.number} stops at position {recorded.position}"
        detail = (
            f"{where}: {recorded.event.type} is impossible history: {reason}. Run the version of muster that wrote it."
        )
        return Corrupt(detail, partition=self.number, position=recorded.position, reason=reason)

    def begin(self, cursor: Cursor, extra_seconds: float) -> None:
        """A reign begins at the cursor: all that can run out gets its full length, and leases and checks `extra_seconds` more:
        what sagas wait for, nobody else has promised to anybody.
        """
        for _ in self.beginning(cursor, extra_seconds):
            pass

    def beginning(self, cursor: Cursor, extra_seconds: float) -> Iterator[None]:
        """`begin` in steps of `begin_items_max`, between which the state may be read. The reign begins behind the last one."""
        assert cursor == self.cursor, "a reign begins where the log was read to"
        yield from self.ids.settle()
        self.deadlines = Deadlines()
        room = begin_items_max
        for stream, state in self.streams.items():
            kind = self._aggregates.of_stream(stream)
            extra = 0.0 if kind.kind == SAGA else extra_seconds
            for item in kind.items(state):
                self.deadlines.arm((stream, item), _timers(kind, kind.part(state, item)), extra)
                room -= 1
                if room == 0:
                    room = begin_items_max
                    yield

    def open(self, now: datetime) -> None:
        """Begin a group of commands. Instants never run backwards: `now` is raised to the last one if need be."""
        assert self._group is None, "the group before was neither committed nor rolled back"
        self._group = Group(max(now, self.last_at), self.cursor.position, self.commands_offset)

    def handle(self, envelope: Envelope, offset: int | None = None) -> Answer:
        """Decide one command. The answer is provisional until `commit`. Raises GroupFull; nothing has changed then.

        `offset` is the command's place in its commands partition, if it came from there.
        """
        group = self._group
        assert group is not None, "no group is open"
        answer = self._handled(envelope, group)
        if offset is not None:
            group.commands_offset = offset + 1
        return answer

    def _handled(self, envelope: Envelope, group: Group) -> Answer:
        try:
            content = content_hash(envelope)
            known = self.ids.recall(envelope.id) or group.answers.get(envelope.id)
            if known is not None:
                return _repeated(known[0], known[1] == content)
            answer = self._decided(envelope, group, content)
        except Refused as refusal:
            answer = self._refused(envelope, group, refusal)
        group.answers[envelope.id] = (answer, content)
        return answer

    def expire(self) -> int:
        """Decide what has run out, as much as fits and at most `expiries_group_max`; how many there were. For a group that is
        still empty.
        """
        group = self._group
        assert group is not None, "no group is open"
        due = self.deadlines.due(expiries_group_max)
        for decided, ((stream, item), timer) in enumerate(due):
            kind = self._aggregates.of_stream(stream)
            assert kind.expire is not None, f"{stream} has no timers"
            id_ = f"expire/{stream}/{item}/{timer.kind}/{timer.name}@{self.streams[stream].version}"
            try:
                self._record(Envelope(id_, stream, kind.expire(timer), actor="muster"), group, None)
            except GroupFull:
                self.deadlines.put_back(due[decided:])
                return decided
            subject = stream, item
            group.touched[subject] = kind, kind.part(self.streams[stream], item)
            group.timed[subject] = None
        return len(due)

    def observe(self, stream: str, command: Command) -> None:
        """Decide what comes from inside: what the checker has seen, what a saga has heard. A refusal means that it came too
        late. Raises GroupFull.
        """
        group = self._group
        assert group is not None, "no group is open"
        state = self.streams.get(stream)
        id_ = f"{inside_id(command, stream)}@{0 if state is None else state.version}"
        actor = "muster/checker" if kind_of(stream) == SERVICE else "muster"
        with suppress(Refused):
            self._record(Envelope(id_, stream, command, actor=actor), group, None)

    def _decided(self, envelope: Envelope, group: Group, content: str) -> Answer:
        stream, command = envelope.stream, envelope.command
        kind = self._of_command[type(command)]
        item = kind.item(command)
        if envelope.expected_version is not None:
            part = kind.part(self.streams.get(stream, kind.initial), item)
            _check_version(envelope.expected_version, kind.version(part), item or stream)
        placed = self._record(envelope, group, content)
        renewed = kind.renews(command)
        if renewed is not None:
            group.renewed.append(((stream, item), renewed))
        head = group.position + len(group.drafts)
        if not placed:
            part = kind.part(self.streams.get(stream, kind.initial), item)
            return Answer(envelope.id, "unchanged", self.number, head, kind.version(part), _incarnation(kind, part))
        last, part = group.folded[-1]
        incarnation = incarnation_behind(last, part)
        return Answer(envelope.id, "accepted", self.number, head, last.version, incarnation)

    def _record(self, envelope: Envelope, group: Group, content: str | None) -> list[Placed]:
        """Decide, check the size, evolve, draft."""
        placed = self._of_command[type(envelope.command)].decide(envelope.command, envelope.stream, self.streams)
        if not placed:
            return placed
        encode, streams = self._mapper.transcoder.encode, self.streams
        data = [encode(event) for _, event in placed]
        self._make_room(group, sum(map(len, data)) + record_overhead_bytes * len(data), len(data))
        for index, (stream, event) in enumerate(placed):
            kind = self._of_event[type(event)]
            before = streams.get(stream)
            if stream not in group.before:
                group.before[stream] = before
            state = kind.initial if before is None else before
            told = (
                self.number,
                group.position + len(group.drafts) + 1,
                stream,
                state.version,
                group.at,
                event,
                f"{envelope.id}:{index}",
                envelope.id,
                envelope.correlation_id,
                envelope.actor,
                envelope.reason,
            )
            recorded = _new(Recorded, told)  # What `Recorded(...)` does behind a call in Python.
            group.drafts.append(_new(Draft, (recorded, content, data[index])))
            streams[stream], part = kind.fold(state, recorded)
            subject = stream, kind.item(event)
            group.touched[subject] = kind, part
            if part is None or not kind.keeps_timers(event, part):
                group.timed[subject] = None
            group.folded.append((recorded, part))
        return placed

    def _make_room(self, group: Group, size: int, records: int) -> None:
        if size > self._batch_bytes_max or records > self._batch_records_max:
            limits = f"{self._batch_bytes_max} bytes or {self._batch_records_max} records"
            raise TooLarge(f"what the command would record is over {limits}, so it cannot be one batch", bytes=size)
        if group.bytes + size > self._batch_bytes_max or len(group.drafts) + records > self._batch_records_max:
            raise GroupFull
        group.bytes += size

    def _refused(self, envelope: Envelope, group: Group, refusal: Refused) -> Answer:
        head = group.position + len(group.drafts)
        return Answer(envelope.id, "refused", self.number, head, error=refusal.facts())

    def close(self) -> tuple[list[StoredEvent], list[Folded], Cursor]:
        """The group as one sealed batch, its events, and the cursor behind it. No records: a beat proves the reign."""
        group = self._group
        assert group is not None, "no group is open"
        if not group.drafts:
            return [], [], self.cursor
        stored, cursor = self._mapper.seal(group.drafts, self.cursor, group.commands_offset)
        return stored, group.folded, cursor

    def commit(self, cursor: Cursor) -> list[tuple[str, str, Any]]:
        """The batch or beat was acknowledged: the group is history. What may have changed: stream, item, and its part now."""
        group, self._group = self._group, None
        assert group is not None, "no group is open"
        self.cursor, self.commands_offset = cursor, group.commands_offset
        if group.drafts:
            self.last_at = group.at
        changed: list[tuple[str, str, Any]] = []
        for (stream, item), (kind, part) in group.touched.items():
            if kind.kind == SAGA and part.ended:
                self._forget(stream)
            changed.append((stream, item, part))
        for subject in group.timed:
            self.deadlines.arm(subject, _timers(*group.touched[subject]))
        for subject, which in group.renewed:
            self.deadlines.renew(subject, which)
        if group.answers:
            self.ids.remember(group.answers.values(), group.at)
        return changed

    def state(self, stream: str) -> Any:
        """The stream's state as the log has it: without what an open group has decided so far."""
        before = self._group.before if self._group is not None else {}
        found = before[stream] if stream in before else self.streams.get(stream)
        return self._aggregates.of_stream(stream).initial if found is None else found

    def committed(self) -> dict[str, Any]:
        """The streams as the log has them at `cursor`: without what an open group has decided so far."""
        if self._group is None:
            return dict(self.streams)
        streams = {**self.streams, **self._group.before}
        return {stream: state for stream, state in streams.items() if state is not None}

    def pending(self) -> bool:
        """Whether the open group records anything."""
        return self._group is not None and bool(self._group.drafts)

    def rollback(self) -> None:
        """The batch was refused, or its fate is unknown: forget the group; the log will tell."""
        group, self._group = self._group, None
        if group is not None:
            self._put_back(group.before)

    def _put_back(self, before: Mapping[str, Any]) -> None:
        """The states of these streams, as they were (None: there was none)."""
        for stream, state in before.items():
            if state is None:
                self.streams.pop(stream, None)
            else:
                self.streams[stream] = state


def _timers(kind: Aggregate, part: Any) -> tuple[Any, ...]:
    """What can run out for the part; what is gone has nothing left."""
    return () if part is None else kind.timers(part)


def _check_version(expected: int, actual: int | None, what: str) -> None:
    if actual != expected:
        found = "not registered" if actual is None else f"at version {actual}"
        detail = f"{what} is {found}; version {expected} was expected"
        raise VersionConflict(detail, expected=expected, actual=actual)


def _incarnation(kind: Aggregate, part: Any) -> int | None:
    return kind.incarnation(part) if part is not None else None


def _repeated(answer: Answer, same: bool) -> Answer:
    if same:
        return Answer(
            answer.id,
            answer.status,
            answer.partition,
            answer.position,
            answer.version,
            answer.incarnation,
            answer.error,
            duplicate=True,
        )
    conflict = IdempotencyConflict(f"command id {answer.id} was used before, for another command", id=answer.id)
    return Answer(answer.id, "refused", answer.partition, answer.position, error=conflict.facts())
