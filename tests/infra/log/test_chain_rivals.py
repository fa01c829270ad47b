"""Rival writers append what they believe in to one list: all readers agree on one history, and the deposed never appear.

The list takes everything, as a broker without a fence does; nobody is told that they were deposed. The oracle knows, record
by record, whether its writer believed the truth when it landed.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from domain.registry.instance import InstanceWeightChanged
from infra.log.chain import Chain, link, term_started
from infra.log.port import START, Cursor
from muster.wire.stream import root_of
from tests.sample import NOON, sealed_batch

writers = st.sampled_from(["w1", "w2", "w3"])
sizes = st.integers(1, 3)


class Rivals(RuleBasedStateMachine):
    """`log` is the list; `believed` what each writer thinks the head is; `truth` what it really is."""

    flying = Bundle("flying")

    def __init__(self):
        super().__init__()
        self.log: list[tuple[bytes, bytes]] = []
        self.truth = START
        self.history: list[list[int]] = []
        self.believed = dict.fromkeys(("w1", "w2", "w3"), START)
        self.reigns: dict[str, Cursor | None] = dict.fromkeys(self.believed)
        self.readers = [Chain(0, START), Chain(0, START)]
        self.seen: list[list[list[int]]] = [[], []]
        self.count = 0
        self.fetched = [0, 0]

    @rule(writer=writers)
    def reads(self, writer):
        self.believed[writer] = self._read(self.believed[writer])

    @rule(writer=writers)
    def starts_a_term(self, writer):
        after = self.believed[writer]
        marker = term_started(after, writer, NOON, "/muster/default")
        self.log.append((b"term", marker.state))
        if (after.term, after.head) == (self.truth.term, self.truth.head):
            position = len(self.log) - 1
            self.truth = Cursor(position, position, link(*self.log[-1]), after.term + 1, writer)
        self.believed[writer] = cursor = self._read(after)
        self.reigns[writer] = cursor if cursor.writer == writer and cursor.head == link(*self.log[-1]) else None

    @rule(writer=writers, size=sizes)
    def appends(self, writer, size):
        if (sealed := self._seal(writer, size)) is not None:
            self._land(*sealed)

    @rule(target=flying, writer=writers, size=sizes)
    def sends_what_is_late(self, writer, size):
        return self._seal(writer, size)

    @rule(batch=flying)
    def what_was_late_lands(self, batch):
        if batch is not None and not any(value == batch[0][0][1] for _, value in self.log):
            self._land(*batch)

    @rule(size=sizes)
    def somebody_writes_foreign_bytes(self, size):
        self.log += [(b"x", b"hello")] * size

    @rule(reader=st.integers(0, 1), size=st.integers(1, 7))
    def a_reader_fetches(self, reader, size):
        self._fetch(reader, size)

    def _seal(self, writer, size):
        cursor = self.reigns[writer]
        if cursor is None:
            return None
        self.count += 1
        events = [InstanceWeightChanged(instance="a", weight=index) for index in range(size)]
        stored, behind = sealed_batch(cursor, *events, commands=f"{writer}-{self.count}-")
        self.reigns[writer] = behind
        return [(root_of(str(record.originator_id)).encode(), record.state) for record in stored], cursor

    def _land(self, batch, cursor):
        # A batch that overtakes its own predecessor would be a gap: one writer's batches keep their order, as on a connection.
        if cursor.term == self.truth.term and cursor.head != self.truth.head:
            return
        first = len(self.log)
        self.log += batch
        if (cursor.term, cursor.writer, cursor.head) == (self.truth.term, self.truth.writer, self.truth.head):
            self.history.append(list(range(first, len(self.log))))
            position = len(self.log) - 1
            self.truth = Cursor(position, position, link(*self.log[-1]), cursor.term, cursor.writer)

    def _read(self, after: Cursor) -> Cursor:
        chain = Chain(0, after)
        list(chain.follow((position, *self.log[position]) for position in range(after.position + 1, len(self.log))))
        return chain.cursor

    def _fetch(self, reader, size):
        chain = self.readers[reader]
        start = self.fetched[reader]
        some = [(position, *self.log[position]) for position in range(start, min(start + size, len(self.log)))]
        self.fetched[reader] = start + len(some)
        self.seen[reader] += [[p for p, _ in batch.records] for batch in chain.follow(some) if batch.records]

    @invariant()
    def readers_agree_on_a_beginning_of_the_one_history(self):
        for reader, seen in enumerate(self.seen):
            assert seen == self.history[: len(seen)], f"reader {reader}"

    def teardown(self):
        for reader in range(2):
            self._fetch(reader, len(self.log))
            assert self.seen[reader] == self.history
            cursor = self.readers[reader].cursor
            assert (cursor.term, cursor.writer, cursor.head) == (self.truth.term, self.truth.writer, self.truth.head)


TestRivals = Rivals.TestCase
TestRivals.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
