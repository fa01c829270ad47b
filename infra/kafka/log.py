"""The event log on Kafka: one partition of `events`, its writer's fence, and its proofs of reign in `liveness`.

A claim bumps the producer epoch of the transactional id `<prefix>.<partition>`: the broker refuses the writer before.
No transaction is ever begun: a record batch is atomic by itself, 30 times as fast, and leaves no markers in the log.
The broker may forget its fence (after a day without a write), and other brokers may not have it. What always holds:
**an append or a beat counts only if it landed exactly where it had to**, which a rival's record in between prevents.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Protocol, Self

import orjson
from aiokafka import TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from eventsourcing.persistence import StoredEvent

from infra.kafka.appends import Appends, Identity
from infra.kafka.reader import KafkaReader
from infra.kafka.topic import EVENTS, LIVENESS, PREFIX, topic_name
from infra.log.ahead import ReadAhead
from infra.log.chain import term_started
from infra.log.port import Batch, Cursor, Document
from muster.wire.error import Fenced, NotReady, TooLarge, Uncertain

_SOURCE: Final = "/muster/default"
_SEQUENCES: Final = 2**31


@dataclass(slots=True)
class _Reign:
    """An identity of ours and where its next records must land; each topic is written to by one task at a time."""

    identity: Identity
    writer: str
    position: int = -1
    beat_position: int = -1
    beat_value: bytes = b""
    sequences: dict[str, int] = field(default_factory=dict)
    appending: asyncio.Lock = field(default_factory=asyncio.Lock)
    beating: asyncio.Lock = field(default_factory=asyncio.Lock)


class Carrier(Protocol):
    """How batches get to the broker; see `infra.kafka.appends.Appends`."""

    async def identity(self, fence: str | None) -> Identity:
        """The next identity of a fence, or one of its own."""

    async def follow(self, partition: TopicPartition) -> None:
        """Get ready to land batches there."""

    async def land(
        self,
        partition: TopicPartition,
        identity: Identity,
        sequence: int,
        records: Sequence[tuple[bytes | None, bytes]],
        *,
        timeout_seconds: float,
    ) -> int:
        """The position of the first record, once all are recorded."""

    async def close(self) -> None:
        """Send nothing any more."""


class PartitionReader(Protocol):
    """How the partition is read; see `infra.kafka.reader.KafkaReader`."""

    def read(
        self, after: Cursor, end: int | None = None, ahead: ReadAhead | None = None
    ) -> AsyncGenerator[Batch, None]:
        """The batches after the cursor and before position `end`; None: the log's end as it is now."""

    def tail(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """The batches after the cursor, for ever."""

    async def fetch(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` records after the position."""


class KafkaLog:
    """One partition on Kafka. An `EventLog` and an `Archive`; an async context manager that ends the reign.

    `prefix` names the cluster's topics, and with the partition the fence: all writers of the log share the fence. Without
    `fence` the broker is not asked to refuse an old writer; the log's rule does it alone, at its next append or beat.
    `append_timeout_seconds` bounds an append and a beat, which are Uncertain then; `claim_timeout_seconds` the start of a
    claim's identity, which on a new Kafka waits for its transaction coordinator. `appends` carries the batches of
    several partitions together; None: this one's alone. `reader` reads this one; None: the broker's. `ahead` reads what is
    long in a process of its own; None: in this one, as always with `client_options`, which may be no plain values.
    `client_options` go to every client of aiokafka (`security_protocol`, `ssl_context`, `sasl_mechanism`, ...).
    """

    def __init__(
        self,
        bootstrap: str,
        partition: int,
        *,
        prefix: str = PREFIX,
        source: str = _SOURCE,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        fence: bool = True,
        appends: Carrier | None = None,
        reader: PartitionReader | None = None,
        ahead: ReadAhead | None = None,
        append_timeout_seconds: float = 5,
        claim_timeout_seconds: float = 30,
        stuck_seconds: float = 10,
        stop_timeout_seconds: float = 1,
        fetch_bytes_max: int = 1024 * 1024,
        client_options: Mapping[str, object] | None = None,
    ) -> None:
        self.partition = partition
        self._bootstrap = bootstrap
        self._source = source
        self._clock = clock
        self._fence = f"{prefix}.{partition}" if fence else None
        self._append_timeout_seconds = append_timeout_seconds
        self._claim_timeout_seconds = claim_timeout_seconds
        self._stop_timeout_seconds = stop_timeout_seconds
        self._own_appends = appends is None
        self._appends: Carrier = appends or Appends(
            bootstrap, timeout_seconds=append_timeout_seconds, client_options=client_options
        )
        self._events = topic_name(EVENTS, prefix)
        self._liveness = topic_name(LIVENESS, prefix)
        self._reader: PartitionReader = reader or KafkaReader(
            bootstrap, self._events, partition, fetch_bytes_max, stuck_seconds, client_options or {}
        )
        self._ahead = ahead
        self._reign: _Reign | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reign = None
        if self._own_appends:
            closing = asyncio.ensure_future(self._appends.close())
            await asyncio.wait([closing], timeout=self._stop_timeout_seconds)

    async def claim(self, writer: str, after: Cursor) -> Cursor:
        """Start a term as `writer`; the cursor of our valid `TermStarted`. `after`: how far the caller has read.

        Raises NotReady when Kafka does not answer, Fenced when another one claims at this moment, Uncertain when the
        start's fate is unknown, Corrupt and CursorRefused as `read` does. After each of them one may claim again.
        """
        self._reign = None
        reign = _Reign(await self._identity(), writer)
        with self._over_on_error(reign):
            cursor = await self._followed(after, None)
            # The order is what makes beats safe without the broker's fence. The head is read before the beat: a rival
            # whose term we build on has thus beaten before us, and our beat stands where its next one had to.
            # A rival that starts a term later voids our start, and we go round again, with a new beat.
            while True:
                reign.beat_value = self._beat_value(writer, cursor.term + 1)
                reign.beat_position = await self._landed(reign, self._liveness, [(None, reign.beat_value)]) + 1
                start = term_started(cursor, writer, self._clock(), self._source)
                position = await self._landed(reign, self._events, [(str(start.originator_id).encode(), start.state)])
                cursor = await self._followed(cursor, position + 1)
                if cursor.head_position == position:
                    break
            reign.position = position + 1
        self._reign = reign
        return cursor

    async def append(self, records: Sequence[StoredEvent]) -> None:
        """Append one batch, whole or not at all, at the positions that the records name.

        Raises Fenced or Uncertain, which end the reign; TooLarge, when nothing was sent, does not.
        """
        reign = self._reigning()
        # One at a time, because the position and the sequence of a batch follow from the one before. Beats have a lock
        # of their own, so that a beat does not wait for the appends.
        async with reign.appending:
            self._still(reign)
            with self._over_on_error(reign):
                if [record.originator_version for record in records] != list(
                    range(reign.position, reign.position + len(records))
                ):
                    # Sent, it would damage the chain in our own name.
                    raise self._uncertain(f"the batch is not for position {reign.position}, where the log ends")
                position = await self._landed(
                    reign, self._events, [(str(record.originator_id).encode(), record.state) for record in records]
                )
                # Something else was recorded in between, so the events are not where our caller believes them.
                if position != reign.position:
                    raise self._uncertain(f"the batch landed at {position}, not at {reign.position}")
                reign.position += len(records)

    async def beat(self) -> None:
        """Prove that the reign goes on, without a record. Raises Fenced or Uncertain; both end the reign."""
        reign = self._reigning()
        async with reign.beating:
            self._still(reign)
            with self._over_on_error(reign):
                position = await self._landed(reign, self._liveness, [(None, reign.beat_value)])
                if position != reign.beat_position:
                    raise self._uncertain(f"the beat landed at {position}, not at {reign.beat_position}")
                reign.beat_position += 1

    def read(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """The batches after the cursor, up to the end of the log as it was on the call.

        Raises CursorRefused when the log contradicts the cursor, Corrupt where the chain breaks, NotReady when Kafka
        does not answer.
        """
        return self._reader.read(after, ahead=self._ahead)

    def tail(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """As `read`, but goes on for ever as the log grows; while Kafka is away, it waits."""
        return self._reader.tail(after)

    async def fetch(self, after: int, limit: int) -> list[tuple[int, Document | None]]:
        """Up to `limit` records after position `after`: (position, document; None: no document of ours)."""
        return [(position, _document(value)) for position, value in await self._reader.fetch(after, limit)]

    async def _followed(self, cursor: Cursor, end: int | None) -> Cursor:
        async for batch in self._reader.read(cursor, end):
            cursor = batch.cursor
        return cursor

    async def _identity(self) -> Identity:
        """With the fence, the successor of all earlier writers of this partition."""
        try:
            async with asyncio.timeout(self._claim_timeout_seconds):
                identity = await self._appends.identity(self._fence)
                for topic in (self._events, self._liveness):
                    await self._appends.follow(TopicPartition(topic, self.partition))
                return identity
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._not_ready(repr(error)) from error

    async def _landed(self, reign: _Reign, topic: str, records: Sequence[tuple[bytes | None, bytes]]) -> int:
        """The position of the first record, once all are recorded."""
        sequence = reign.sequences.get(topic, 0)
        try:
            position = await self._appends.land(
                TopicPartition(topic, self.partition),
                reign.identity,
                sequence,
                records,
                timeout_seconds=self._append_timeout_seconds,
            )
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"another writer has claimed partition {self.partition}", partition=self.partition) from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._uncertain(repr(error)) from error
        # Moved on only after success. Any error ends the reign, and the next begins at 0 with its own identity.
        reign.sequences[topic] = (sequence + len(records)) % _SEQUENCES
        return position

    @contextmanager
    def _over_on_error(self, reign: _Reign) -> Iterator[None]:
        """Ends the reign on any error, and on cancellation: what was on its way may have landed."""
        try:
            yield
        except TooLarge:
            raise
        except BaseException:
            if self._reign is reign:
                self._reign = None
            raise

    def _reigning(self) -> _Reign:
        if self._reign is None:
            raise Fenced(f"no term of ours runs in partition {self.partition}; claim it", partition=self.partition)
        return self._reign

    def _still(self, reign: _Reign) -> None:
        """Refuses what waited for its turn while the reign ended."""
        if self._reign is not reign:
            raise Fenced(f"the term in partition {self.partition} has ended", partition=self.partition)

    @staticmethod
    def _beat_value(writer: str, term: int) -> bytes:
        return orjson.dumps({"writer": writer, "term": term})

    def _uncertain(self, reason: str) -> Uncertain:
        return Uncertain(
            f"only the log can tell what became of an append to partition {self.partition}: {reason}",
            partition=self.partition,
        )

    def _not_ready(self, reason: str) -> NotReady:
        return NotReady(
            f"partition {self.partition} cannot be claimed on Kafka at {self._bootstrap}: {reason}",
            partition=self.partition,
        )


def _document(value: bytes) -> Document | None:
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
