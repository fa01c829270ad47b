"""The log port: one partition, one ordered chain of records, one writer at a time.

Unit: eventsourcing's `StoredEvent` with originator_id = the root stream (the record's key), originator_version = the
position, topic = the event's type, state = the sealed CloudEvents document (see `infra.log.codec`).
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple, Protocol

from eventsourcing.persistence import StoredEvent

from muster.wire.error import NotReady

Document = dict[str, Any]
"""A record's CloudEvents document, parsed."""


class Cursor(NamedTuple):
    """How far a reader is: enough to notice that the log is not the one it read.

    `position` is the last record passed (-1: none); `head` is the SHA-256 link of the last valid record, which stands at
    `head_position`; `term` and `writer` say who reigned there.
    """

    position: int
    head_position: int
    head: bytes
    term: int
    writer: str


class StorageFailed(NotReady):
    """What the log is stored on fails: it is full, read-only, or broken. Nothing of the call is in the log.

    It goes by itself when the storage works again, so it ends nothing; outside it is a `NotReady` like any other.
    """

    @property
    def name(self) -> str:
        """See `MusterError`."""
        return NotReady.__name__


START = Cursor(position=-1, head_position=-1, head=bytes(32), term=0, writer="")


class Term(NamedTuple):
    """A term of a partition: where its `TermStarted` stands, its number, and its mark, which is the beginning of that
    record's link.

    The link proves all history before it, and one writer writes all of a term: so logs that have the same term at a position
    are one and the same up to there. Logs that were written apart (lost, restored, written on) never have it.
    """

    position: int
    number: int
    mark: str


class Batch(NamedTuple):
    """A whole batch: `records` are (position, document) pairs, and `cursor` is after its last record.

    A batch of no records moves the cursor over void records and starts of terms. `voids` counts the void records
    passed since the batch before; `left` how many records of a long reading follow it (0: few, or unknown); `began` are the
    terms that began since the batch before.
    """

    records: Sequence[tuple[int, Document]]
    cursor: Cursor
    voids: int = 0
    left: int = 0
    began: Sequence[Term] = ()


class EventLog(Protocol):
    """One partition of the event log. The chain rule holds in every implementation; see `infra.log.chain`."""

    partition: int

    async def claim(self, writer: str, after: Cursor) -> Cursor:
        """Start a term as `writer`; the cursor of our valid `TermStarted`. `after`: how far the caller has read.

        The caller then reads from its own cursor up to the returned one before it decides anything. Raises StorageFailed when
        the term cannot be recorded.
        """

    async def append(self, records: Sequence[StoredEvent]) -> None:
        """Append one batch, whole or not at all, at the positions that the records name.

        Raises Fenced when another writer reigns, Uncertain when only the log can tell, StorageFailed when nothing was
        stored; all of them end the reign.
        """

    async def beat(self) -> None:
        """Prove that the reign goes on, without a record. Raises Fenced or Uncertain; both end the reign."""

    def read(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """The batches after the cursor, up to the end of the log as it was on the call.

        Raises CursorRefused when the log contradicts the cursor, Corrupt where the chain breaks.
        """

    def tail(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """As `read`, but goes on for ever as the log grows.

        A batch of no records with the cursor of the one before says, about once a second: nothing follows it now.
        """


class Archive(Protocol):
    """Random reading of one partition, for answers about the past. Nothing is verified; callers judge by term."""

    async def fetch(self, after: int, limit: int) -> list[tuple[int, Document | None]]:
        """Up to `limit` records after position `after`: (position, document; None: no document of ours)."""
