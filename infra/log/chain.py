"""The chain rule: which records of a partition are history. Pure; every reader and writer uses it.

Each record carries its writer's term and `prev`, the SHA-256 link of the valid record before it. Log order decides between
rivals, as a conditional append would (Kafka's KIP-27, never built):

* valid    the reigning term's record whose `prev` is the head; or `TermStarted` with the next number at the head
* void     skipped and counted: a deposed term's record, a `TermStarted` that lost its race, foreign bytes
* corrupt  anything else: the partition stops there

A record also ends in a CRC-32 of its key and bytes, so that the damage of the newest record, which nothing follows yet, is seen
too. A record is foreign only if neither its beginning nor its end is ours: damage to one byte never makes a record foreign.
"""

from binascii import crc32
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple

import orjson
from eventsourcing.persistence import StoredEvent

from infra.log.port import Batch, Cursor, Document, Term
from muster.wire.error import Corrupt
from muster.wire.stream import root_of

TERM_STARTED: Final = "muster.term.started.v1"
TERM_STREAM: Final = "term"
_BEGINNING: Final = b'{"specversion":"1.0","type":"muster.'
_SEAL: Final = b',"crc":"'
_SEAL_BYTES: Final = len(_SEAL) + 8 + 2
_MARK_DIGITS: Final = 8
"""A term's mark is 4 bytes in hex: short in every token, and two logs have the same one by chance once in 4 billion."""


def link(key: bytes, value: bytes) -> bytes:
    """The SHA-256 of a record: length-prefixed key, then the exact value bytes."""
    return sha256(len(key).to_bytes(4, "big") + key + value).digest()


class Key(NamedTuple):
    """A record's key, its length-prefixed form and its checksum, made once for many records."""

    stream: str
    text: bytes
    prefix: bytes
    crc: int

    def sealed(self, document: bytes) -> bytes:
        """The JSON object with its `crc` as last member."""
        body = document[:-1]
        return body + b',"crc":"%08x"}' % crc32(body, self.crc)

    def link(self, value: bytes) -> bytes:
        """See `link`."""
        return sha256(self.prefix + value).digest()


@lru_cache(maxsize=65_536)
def key_of(stream: str) -> Key:
    """The key of the stream's records: its root."""
    return _key(root_of(stream))


def _key(stream: str) -> Key:
    key = stream.encode()
    return Key(stream, key, len(key).to_bytes(4, "big") + key, crc32(key))


def sealed(key: bytes, document: bytes) -> bytes:
    """See `Key.sealed`."""
    return _key(key.decode()).sealed(document)


def term_started(after: Cursor, writer: str, at: datetime, source: str) -> StoredEvent:
    """The record that opens the term after the cursor's, at the cursor's head."""
    number = after.term + 1
    document = orjson.dumps(
        {
            "specversion": "1.0",
            "type": TERM_STARTED,
            "source": source,
            "id": f"term-{number}-{writer}",
            "subject": TERM_STREAM,
            "time": at,
            "datacontenttype": "application/json",
            "term": number,
            "writer": writer,
            "prev": after.head.hex(),
            "batchlast": True,
            "data": {},
        },
        option=orjson.OPT_UTC_Z,
    )
    value = sealed(TERM_STREAM.encode(), document)
    return StoredEvent(TERM_STREAM, after.position + 1, TERM_STARTED, value)


class Chain:
    """Follows a partition record by record from a cursor; yields whole batches. State: the cursor and an open batch."""

    def __init__(self, partition: int, cursor: Cursor) -> None:
        self.partition = partition
        self.cursor = cursor
        self._position = cursor.position
        # The head is kept as hex, the form that `prev` has in a document: no record has to be converted to be compared.
        self._head_position, self._head = cursor.head_position, cursor.head.hex()
        self._number, self._writer = cursor.term, cursor.writer
        self._open: list[tuple[int, Document]] = []
        self._voids = 0
        self._began: list[Term] = []

    def follow(self, records: Iterable[tuple[int, bytes | None, bytes]]) -> Iterator[Batch]:
        """The batches that end within the records (position, key or None if the log keeps no keys, value).

        Raises Corrupt at the first record that can be neither history nor void, after all batches before it.
        """
        for position, key, value in records:
            if position != self._position + 1:
                missing = self._position + 1
                raise self._corrupt(missing, f"record {missing} is missing")
            self._position = position
            if self._step(position, key, value):
                yield self._batch()
        # Void records at the end are passed with a batch of no records. After an open batch they wait for its end,
        # because a cursor must never stand inside a batch.
        if self._position > self.cursor.position and not self._open:
            yield self._batch()

    def end(self) -> None:
        """The log ends here. Raises Corrupt in the middle of a batch: batches are appended whole."""
        if self._open:
            raise self._corrupt(self._position, "the log ends in the middle of a batch")

    def _batch(self) -> Batch:
        head = bytes.fromhex(self._head)
        self.cursor = Cursor(self._position, self._head_position, head, self._number, self._writer)
        batch = Batch(tuple(self._open), self.cursor, self._voids, began=tuple(self._began))
        self._open, self._voids, self._began = [], 0, []
        return batch

    def _step(self, position: int, key: bytes | None, value: bytes) -> bool:
        """Whether the record ends a batch."""
        if type(value) is not bytes:  # A store whose own type tag was damaged gives something else.
            raise self._corrupt(position, "the record is not bytes")
        begins, ends = value.startswith(_BEGINNING), value[-_SEAL_BYTES:-10] == _SEAL
        if not begins and not ends:
            self._voids += 1
            return False
        try:
            document: Document = orjson.loads(value)
            known = key_of(document["subject"])
            number, writer, prev = document["term"], document["writer"], document["prev"]
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise self._corrupt(position, "the bytes are no document of ours") from None
        if key is not None and key != known.text:
            raise self._corrupt(position, "the key is not the subject's root")
        if value[-10:-2] != b"%08x" % crc32(value[:-_SEAL_BYTES], known.crc) or not (begins and ends):
            raise self._corrupt(position, "the bytes do not match their checksum")
        at_head = prev == self._head
        if document["type"] == TERM_STARTED:
            return self._term_started(
                position, number, writer, sha256(known.prefix + value).hexdigest(), at_head=at_head
            )
        # This stands before the look at `prev`: a deposed writer builds on a head that it believes in, right or wrong.
        if number < self._number:
            self._voids += 1
            return False
        if number != self._number or writer != self._writer:
            raise self._corrupt(position, f"term {number} of {writer} was never started")
        if not at_head:
            raise self._corrupt(position, "prev is not the link of the record before")
        self._head_position, self._head = position, sha256(known.prefix + value).hexdigest()
        self._open.append((position, document))
        return "batchlast" in document

    def _term_started(self, position: int, number: int, writer: str, head: str, *, at_head: bool) -> bool:
        # A writer takes its number from the log that it has read, so a number can be taken twice but never be left out.
        if number > self._number + 1:
            raise self._corrupt(position, f"term {number} starts, but the last one was {self._number}")
        # Two have claimed at once, or the reigning writer has appended in between: the order in the log has decided.
        if number <= self._number or not at_head:
            self._voids += 1
            return False
        if self._open:
            raise self._corrupt(position, "a term starts in the middle of a batch")
        self._number, self._writer = number, writer
        self._head_position, self._head = position, head
        self._began.append(Term(position, number, head[:_MARK_DIGITS]))
        return True

    def _corrupt(self, position: int, reason: str) -> Corrupt:
        return Corrupt(
            f"partition {self.partition} is damaged at position {position}: {reason}",
            partition=self.partition,
            position=position,
            reason=reason,
        )
