"""The partition machine: commands in, one batch of events and the answers out. Pure and synchronous.

    recover   `fold` whole batches of the log
    reign     `begin` (arm what can run out), then step by step: group = `step(…)`, append `group.batch`,
              then `commit(group)` or `rollback(group)`

States are values, so a rollback puts back the references that the group replaced. Answers may leave only after
`commit`, that is, after the batch (or a beat) that was begun after the decision has been acknowledged.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from domain.catalogue import Answer
from domain.decider import Parts, Timer
from domain.message import Recorded
from domain.saga import Saga
from infra.log.codec import CloudEventMapper, Draft, command_hashes, commands_offset, commands_topic
from infra.log.port import START, Batch, Cursor
from muster.wire.command import Envelope
from muster.wire.error import Corrupt, Refused, TooLarge
from muster.wire.route import partition_of
from muster.wire.telemetry.heartbeats import Heartbeats
from workers.machine import signs
from workers.machine.aggregate import AGGREGATES, Aggregates, AnyDecider, own_actor, own_id, seen_incarnation
from workers.machine.answer import accepted, check_place, check_version, refused, repeated, unchanged
from workers.machine.command_ids import CommandIds, content_hash, packed_acceptance
from workers.machine.deadlines import Deadlines
from workers.machine.group import Commands, Folded, Group, GroupFull, Observation
from workers.machine.heartbeats import hear

record_overhead_bytes: Final = 800
"""An upper bound for a record's envelope, names of ordinary length assumed; the batch limit leaves room for more."""

recent_answers_max: Final = 10_000
expiries_group_max: Final = 200
ended_sagas_max: Final = 10_000
begin_items_max: Final = 500
_BEGINNING: Final = datetime.fromtimestamp(0, UTC)


class Partition:
    """One partition's states, of `partitions` in all. `aggregates` says what can be decided here, and which sagas there are;
    `batch_bytes_max` and `batch_records_max` bound one batch, `ids_max` the command ids that are remembered.
    """

    def __init__(
        self,
        number: int,
        mapper: CloudEventMapper,
        aggregates: Aggregates = AGGREGATES,
        *,
        partitions: int = 1,
        batch_bytes_max: int = 900_000,
        batch_records_max: int = 2_000,
        ids_max: int = 200_000,
    ) -> None:
        self.number = number
        self.cursor: Cursor = START
        self.commands_offset: int | None = None
        self.commands_topic: str | None = None
        self.streams: dict[str, Any] = {}
        self.ids = CommandIds(number, ids_max)
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._recent: deque[str] = deque(maxlen=recent_answers_max)
        self.deadlines = Deadlines()
        self.last_at = _BEGINNING
        self._mapper = mapper
        self._aggregates = aggregates
        self._partitions = partitions
        self._batch_bytes_max = batch_bytes_max
        self._batch_records_max = batch_records_max
        self._open: Group | None = None

    def fold(self, batch: Batch) -> list[Folded]:
        """Fold a batch of the log. Returns its events, each with the part it is about, as of after the event.

        Raises Corrupt where one cannot be decoded, or is impossible; the state is then as it was before the batch.
        """
        before: dict[str, Any] = {}
        folded: list[Folded] = []
        for recorded in self._mapper.events(self.number, batch):
            # What each stream was before the batch: an impossible event in the middle takes back all of the batch.
            before.setdefault(recorded.stream, self.streams.get(recorded.stream))
            try:
                folded.append((recorded, self._evolve(recorded)[2]))
            except AssertionError as error:
                self._put_back(before)
                raise self._impossible(recorded, str(error)) from error
        if folded:
            self._remember(batch, folded)
            self.last_at = max(self.last_at, folded[-1][0].at)
        # Also for a batch without events: void records and starts of terms move the cursor too.
        self.cursor = batch.cursor
        return folded

    def _evolve(self, recorded: Recorded[Any]) -> tuple[AnyDecider, str, Any]:
        """Take the event into its stream's state. Its decider, the item that it is about, and that as it stands after it."""
        stream, event = recorded.stream, recorded.event
        decider = self._aggregates.of_event[type(event)]
        parts = decider.parts
        item = parts.item(event)
        self.streams[stream] = state = decider.evolve(self.streams.get(stream, decider.initial), recorded)
        return decider, item, parts.part(state, item)

    def _remember(self, batch: Batch, folded: Sequence[Folded]) -> None:
        """Remember the answers of the commands that the batch recorded, and which sagas have ended."""
        answers: dict[str, bytes] = {}
        for content, (recorded, part) in zip(command_hashes(batch), folded, strict=True):
            # What a writer has observed itself has no content hash, and no caller who might repeat it.
            if content is not None:
                incarnation = seen_incarnation(self._aggregates, recorded, part)
                packed = packed_acceptance(content, recorded.position, recorded.version, incarnation)
                answers[recorded.command_id] = packed  # Of a command's events the last one stays.
            if isinstance(part, Saga) and part.ended:
                self._forget(recorded.stream)
        self.ids.accepted(answers, folded[0][0].at)
        self._recent.extend(answers)
        offset = commands_offset(batch)
        if offset is not None:
            self.commands_offset = offset
        self.commands_topic = commands_topic(batch) or self.commands_topic

    def _forget(self, stream: str) -> None:
        """Nothing can happen to a saga that has ended: only the newest of them are kept, for late callers."""
        # By name: in the log a saga has ended twice, by its last step's event and by the one that says so.
        self._ended[stream] = None
        while len(self._ended) > ended_sagas_max:
            oldest, _ = self._ended.popitem(last=False)
            self.streams.pop(oldest, None)

    def state(self, stream: str) -> Any:
        """The stream's state as the log has it: without what an open group has decided so far."""
        before = {} if self._open is None else self._open.before
        found = before[stream] if stream in before else self.streams.get(stream)
        return self._aggregates.of_stream(stream).initial if found is None else found

    def restored(self) -> None:
        """The states were filled from a snapshot."""
        ended = (stream for stream, state in self.streams.items() if isinstance(state, Saga) and state.ended)
        self._ended.update(dict.fromkeys(ended))

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

    def consume(self, topic: str | None, offset: int | None) -> None:
        """From here on commands are read from this topic, at this offset; the next batch says so."""
        # An open group has the offset of the other topic, and would bring it back when it is committed.
        assert self._open is None, "between two groups only"
        self.commands_topic, self.commands_offset = topic, offset

    def begin(self, cursor: Cursor, extra_seconds: float, now: datetime = _BEGINNING) -> None:
        """A reign begins at the cursor: all that can run out gets its full length, and `extra_seconds` more if it is renewed.
        Timers of sagas get no more: no promise to a client depends on them. What nobody renews goes on as the log has begun it.
        """
        for _ in self.beginning(cursor, extra_seconds, now):
            pass

    def beginning(self, cursor: Cursor, extra_seconds: float, now: datetime) -> Iterator[None]:
        """`begin` in pieces of `begin_items_max`, between which the state may be read. The reign begins after the last one."""
        assert cursor == self.cursor, "a reign begins where the log was read to"
        yield from self.ids.settle()
        # Nothing is left of an earlier reign: renewals are not recorded, and since then they went to another
        # writer.
        self.deadlines = Deadlines()
        room, now = begin_items_max, max(now, self.last_at)
        for stream, state in self.streams.items():
            parts = self._aggregates.of_stream(stream).parts
            extra = extra_seconds if parts.from_afar else 0.0
            for item in parts.items(state):
                part = parts.part(state, item)
                length = partial(_length, parts, part, extra, now, self.last_at)
                self.deadlines.arm((stream, item), () if part is None else parts.timers(part), length)
                room -= 1
                if room == 0:
                    room = begin_items_max
                    yield

    def step(
        self,
        now: datetime,
        commands: Commands = (),
        observations: Iterable[Observation] = (),
        heartbeats: Iterable[Heartbeats] = (),
    ) -> Group:
        """Decide what has run out, what the writer has observed, who was heard, then the commands, as much as fits in a batch.

        The states move at once, so that each decision sees those before it; `rollback` puts them back. Instants never run
        backwards: `now` is raised to the last one if need be.
        """
        assert self._open is None, "the group before was neither committed nor rolled back"
        group = self._open = Group(max(now, self.last_at), self.cursor.position, self.commands_offset)
        # What has run out is decided before the commands: a heartbeat in the same step comes too late. A full group is
        # no failure: what did not fit is given again in the next one.
        with suppress(GroupFull):
            self._expire(group)
            for stream, command in observations:
                self._observe(stream, command, group)
                group.observed += 1
            for message in heartbeats:
                group.heard.append(hear(message, self.streams, group, self._beat))
            for envelope, offset in commands:
                group.answers.append(self._heard(envelope, group) or self._answer(envelope, group))
                if offset is not None:
                    # It is sealed into the batch: what a command did and that it was read are both in the log, or
                    # neither is.
                    group.commands_offset = offset + 1
        group.cursor = self.cursor
        if group.drafts:
            group.batch, group.cursor = self._mapper.seal(
                group.drafts, self.cursor, group.commands_offset, self.commands_topic
            )
        return group

    def _heard(self, envelope: Envelope, group: Group) -> Answer | None:
        """The answer to a sign of life that changes nothing; None: it is to be decided."""
        decider = self._aggregates.only_sign(envelope, self.streams)
        if decider is None or partition_of(envelope.stream, self._partitions) != self.number:
            return None
        # Whatever has had its answer under this id gets the same again, or a refusal.
        if self.ids.recall(envelope.id) is not None or envelope.id in group.answered:
            return None
        return signs.heard(envelope, decider, self.streams, self.number, group)

    def is_only_sign(self, envelope: Envelope) -> bool:
        """Whether this is a sign of life that will change nothing, as far as can be seen now: it can wait for others."""
        return self._aggregates.only_sign(envelope, self.streams) is not None

    def _answer(self, envelope: Envelope, group: Group) -> Answer:
        content = content_hash(envelope)
        try:
            # First of all, and for every way in: a stream that is decided in two partitions has two histories, and nothing
            # mends that. Any Kafka client may publish, and many of them send by another hash than ours.
            check_place(envelope.stream, self.number, self._partitions)
            known = self.ids.recall(envelope.id) or group.answered.get(envelope.id)
            if known is not None:
                return repeated(known[0], same=known[1] == content)
            answer = self._decided(envelope, group, content)
        except Refused as refusal:
            answer = refused(envelope, self.number, group.head, refusal)
        # Refusals too: a repeat gets the same answer, even if the command would be accepted by now.
        group.answered[envelope.id] = (answer, content)
        return answer

    def _expire(self, group: Group) -> None:
        """Decide what has run out, at most `expiries_group_max`. Raises GroupFull; what is left is due again at once."""
        due = self.deadlines.due(expiries_group_max)
        for decided, ((stream, item), timer) in enumerate(due):
            parts = self._aggregates.of_stream(stream).parts
            assert parts.expire is not None, f"{stream} has no timers"
            # Nobody repeats it, but the ids of its events are made from it, and the version keeps those unique.
            id_ = f"expire/{stream}/{item}/{timer.kind}/{timer.name}@{self.streams[stream].version}"
            try:
                self._record(Envelope(id_, stream, parts.expire(timer), actor="muster"), group, None)
            except GroupFull:
                self.deadlines.put_back(due[decided:])
                raise
            group.expired += 1
            # Whatever the outcome, the timer is spent: the item's timers are armed anew.
            decider = self._aggregates.of_stream(stream)
            group.touched[stream, item] = decider, parts.part(self.streams[stream], item)
            group.timed[stream, item] = None

    def _observe(self, stream: str, command: Any, group: Group) -> None:
        """Decide a result of the checker, or an effect that is reported to a saga. A refusal means that it came too late."""
        state = self.streams.get(stream)
        id_ = f"{own_id(command, stream)}@{0 if state is None else state.version}"
        with suppress(Refused):
            self._record(Envelope(id_, stream, command, actor=own_actor(stream)), group, None)

    def _beat(self, envelope: Envelope, group: Group) -> None:
        """Decide a beat that may change something. Raises a `Refused`, or GroupFull."""
        check_place(envelope.stream, self.number, self._partitions)
        self._record(envelope, group, None)

    def _decided(self, envelope: Envelope, group: Group, content: str) -> Answer:
        stream, command = envelope.stream, envelope.command
        decider = self._aggregates.of_command[type(command)]
        parts = decider.parts
        item = parts.item(command)
        if envelope.expected_version is not None:
            part = parts.part(self.streams.get(stream, decider.initial), item)
            check_version(envelope.expected_version, parts.version(part), item or stream)
        last = self._record(envelope, group, content)
        # After the decision: a command that was refused, or did not fit, renews nothing.
        renewed = parts.renews(command)
        if renewed is not None:
            group.renewed.append(((stream, item), renewed))
        if last is None:
            part = parts.part(self.streams.get(stream, decider.initial), item)
            return unchanged(envelope, self.number, group.head, decider, part)
        return accepted(envelope, self.number, last[0], seen_incarnation(self._aggregates, *last))

    def _record(self, envelope: Envelope, group: Group, content: str | None) -> Folded | None:
        """Decide, check the size, evolve, draft. Returns the last event of the command itself, which its answer tells of; None:
        nothing is to be recorded. Raises a `Refused`, or GroupFull: nothing has changed then.
        """
        placed = self._aggregates.decide(envelope.command, envelope.stream, self.streams)
        own = len(placed)
        placed += self._aggregates.heard(envelope.stream, placed, self.streams)
        data = [self._mapper.transcoder.encode(event) for _, event in placed]
        self._make_room(group, sum(map(len, data)) + record_overhead_bytes * len(data), len(data))
        for index, (stream, event) in enumerate(placed):
            before = self.streams.get(stream)
            group.before.setdefault(stream, before)
            recorded = Recorded(
                self.number,
                group.head + 1,
                stream,
                0 if before is None else before.version,
                group.at,
                event,
                f"{envelope.id}:{index}",
                envelope.id,
                envelope.correlation_id,
                # What a saga makes of it nobody has asked for; which command it comes of, the correlation tells.
                envelope.actor if index < own else own_actor(stream),
                envelope.reason,
            )
            # Nor is that an answer to the command: a repeat is answered by the command's own events.
            group.drafts.append(Draft(recorded, content if index < own else None, data[index]))
            decider, item, part = self._evolve(recorded)
            subject = stream, item
            group.touched[subject] = decider, part
            if part is None or not decider.parts.keeps_timers(event, part):
                group.timed[subject] = None
            group.folded.append((recorded, part))
        return group.folded[own - len(placed) - 1] if own else None

    def _make_room(self, group: Group, size: int, records: int) -> None:
        # This would not fit into an empty group either, so it is refused. In the other case, below, it only has to wait.
        if size > self._batch_bytes_max or records > self._batch_records_max:
            limits = f"{self._batch_bytes_max} bytes or {self._batch_records_max} records"
            raise TooLarge(f"what the command would record is over {limits}, so it cannot be one batch", bytes=size)
        if group.bytes + size > self._batch_bytes_max or len(group.drafts) + records > self._batch_records_max:
            raise GroupFull
        group.bytes += size

    def commit(self, group: Group) -> list[tuple[str, str, Any]]:
        """The batch or beat was acknowledged: the group is history. What may have changed: stream, item, and its part now."""
        assert group is self._open, "only the open group can be committed"
        self._open = None
        self.cursor, self.commands_offset = group.cursor, group.commands_offset
        if group.drafts:
            self.last_at = group.at
        changed: list[tuple[str, str, Any]] = []
        for (stream, item), (_, part) in group.touched.items():
            if isinstance(part, Saga) and part.ended:
                self._forget(stream)
            changed.append((stream, item, part))
        for subject in group.timed:
            decider, part = group.touched[subject]
            self.deadlines.arm(subject, () if part is None else decider.parts.timers(part))
        for subject, which in group.renewed:
            self.deadlines.renew(subject, which)
        if group.answered:
            # Not before the log has acknowledged: an answer that was taken back must not be given to a repeat.
            self.ids.remember(group.answered.values(), group.at)
        return changed

    def rollback(self, group: Group) -> None:
        """The batch was refused, or its fate is unknown: forget the group; the log will tell."""
        assert group is self._open, "only the open group can be rolled back"
        self._open = None
        # Timers that had run out stay spent. A refused batch ends the reign, and the next one arms all of them anew.
        self._put_back(group.before)

    def committed(self) -> dict[str, Any]:
        """The streams as the log has them at `cursor`: without what an open group has decided so far."""
        if self._open is None:
            return dict(self.streams)
        streams = {**self.streams, **self._open.before}
        return {stream: state for stream, state in streams.items() if state is not None}

    def _put_back(self, before: Mapping[str, Any]) -> None:
        """The states of these streams, as they were (None: there was none)."""
        for stream, state in before.items():
            if state is None:
                self.streams.pop(stream, None)
            else:
                self.streams[stream] = state


def _length(parts: Parts, part: object, extra_seconds: float, now: datetime, newest: datetime, timer: Timer) -> float:
    """How long a timer runs that is armed when a reign begins."""
    left = parts.left(part, timer, now, newest)
    return timer.seconds + extra_seconds if left is None else left
