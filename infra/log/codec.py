"""Events as bytes: one CloudEvents 1.0 document in structured JSON mode per record.

Built on eventsourcing's Mapper: the transcoder, upcasting, and optionally a compressor and a cipher come from there.
With either of them the event is in `data_base64`; the envelope stays readable, so that anyone can verify the chain.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson
from eventsourcing.persistence import Cipher, Compressor, Mapper, StoredEvent, Transcoder
from pydantic import ValidationError

from domain.catalogue import EVENTS
from domain.message import Event, Recorded, from_plain, to_json
from infra.log.chain import key_of
from infra.log.decoded import DecodedRecords
from infra.log.port import Batch, Cursor, Document
from muster.wire.error import Corrupt


class EventTranscoder(Transcoder):
    """Events to JSON bytes, and JSON bytes to plain objects."""

    def encode(self, obj: Event) -> bytes:
        """The event's data as JSON."""
        return to_json(obj)

    def decode(self, data: bytes) -> Any:
        """The JSON value."""
        return orjson.loads(data)


class Draft(NamedTuple):
    """An event about to be recorded. `command_hash` makes its command idempotent (None: internal); `data`: its JSON."""

    recorded: Recorded
    command_hash: str | None
    data: bytes


class CloudEventMapper(Mapper[str]):
    """Between `Recorded` events and sealed CloudEvents documents. `source` names the cluster: `/muster/<cluster>`."""

    def __init__(
        self,
        source: str = "/muster/default",
        compressor: Compressor | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        super().__init__(EventTranscoder(), compressor, cipher)
        self.source = source

    def seal(
        self,
        drafts: Sequence[Draft],
        cursor: Cursor,
        commands_offset: int | None,
        commands_topic: str | None = None,
    ) -> tuple[list[StoredEvent], Cursor]:
        """The drafts as one batch that follows the cursor's head, and the cursor after it.

        `commands_offset` is the next offset to read of the commands partition, and `commands_topic` the id of the topic that it
        is of; they ride on the batch's last record.
        """
        head, last = cursor.head, len(drafts) - 1
        stored: list[StoredEvent] = []
        for index, draft in enumerate(drafts):
            recorded = draft.recorded
            document = self._document(draft, cursor, head)
            if index == last:
                document["batchlast"] = True
                if commands_offset is not None:
                    document["commandsoffset"] = str(commands_offset)
                if commands_topic is not None:
                    document["commandstopic"] = commands_topic
            key = key_of(recorded.stream)
            value = key.sealed(orjson.dumps(document, option=orjson.OPT_UTC_Z))
            # The next record links to this one: the batch is valid only in this order, and only after the cursor's head.
            head = key.link(value)
            stored.append(StoredEvent(key.stream, recorded.position, recorded.event.type, value))
        end = cursor.position + len(drafts)
        return stored, Cursor(end, end, head, cursor.term, cursor.writer)

    def _document(self, draft: Draft, cursor: Cursor, head: bytes) -> Document:
        recorded = draft.recorded
        document: Document = {
            "specversion": "1.0",
            "type": recorded.event.type,
            "source": self.source,
            "id": recorded.id,
            "subject": recorded.stream,
            "time": recorded.at,
            "datacontenttype": "application/json",
            "streamversion": recorded.version,
            "causationid": recorded.command_id,
            "actor": recorded.actor,
            "term": cursor.term,
            "writer": cursor.writer,
            "prev": head.hex(),
        }
        if recorded.reason is not None:
            document["reason"] = recorded.reason
        if recorded.correlation_id is not None:
            document["correlationid"] = recorded.correlation_id
        if draft.command_hash is not None:
            document["commandhash"] = draft.command_hash
        data = draft.data
        if self.compressor is None and self.cipher is None:
            # The draft has its JSON already; a fragment is copied into the document as it is.
            document["data"] = orjson.Fragment(data)
            return document
        if self.compressor is not None:
            # Before the cipher: what is encrypted does not get smaller.
            data = self.compressor.compress(data)
        if self.cipher is not None:
            data = self.cipher.encrypt(data)
        document["data_base64"] = b64encode(data).decode()
        return document

    def events(self, partition: int, batch: Batch) -> list[Recorded]:
        """The batch's events with their places. Raises Corrupt at the first that cannot be decoded."""
        records, decode = batch.records, self.recorded
        if isinstance(records, DecodedRecords):
            return records.events(partition, decode)
        return [decode(partition, position, document) for position, document in records]

    def recorded(self, partition: int, position: int, document: Document) -> Recorded:
        """The document's event with its place. Raises Corrupt when it cannot be decoded."""
        try:
            return Recorded(
                partition,
                position,
                document["subject"],
                document["streamversion"],
                datetime.fromisoformat(document["time"]),
                self._event(document),
                document["id"],
                document["causationid"],
                document.get("correlationid"),
                document["actor"],
                document.get("reason"),
            )
        except (KeyError, TypeError, ValueError, ValidationError, zlib.error) as error:
            reason = f"{document.get('type')} cannot be decoded: {error}"
            detail = (
                f"partition {partition} stops at position {position}: {reason}. "
                "Run a version of muster that knows this event, with the cipher that wrote it."
            )
            raise Corrupt(detail, partition=partition, position=position, reason=reason) from error

    def _event(self, document: Document) -> Event:
        data = document.get("data")
        if data is None:
            # Each record says by its member how it was written: plain ones of old stay readable when a cipher is added.
            packed = b64decode(document["data_base64"])
            if self.cipher is not None:
                packed = self.cipher.decrypt(packed)
            if self.compressor is not None:
                packed = self.compressor.decompress(packed)
            data = self.transcoder.decode(packed)
        return event_from(document["type"], data)


def command_hashes(batch: Batch) -> list[str | None]:
    """The hash of what its command asked, for each of the batch's events; None: the command came from inside."""
    records = batch.records
    if isinstance(records, DecodedRecords):
        return records.hashes()
    return [document.get("commandhash") for _, document in records]


def commands_offset(batch: Batch) -> int | None:
    """The next offset to read of the commands partition, if the batch says one."""
    records = batch.records
    offset = records.offset() if isinstance(records, DecodedRecords) else records[-1][1].get("commandsoffset")
    return None if offset is None else int(offset)


def commands_topic(batch: Batch) -> str | None:
    """The id of the commands topic that the offset is of, if the batch says it."""
    records = batch.records
    if isinstance(records, DecodedRecords):
        return records.topic()
    found: str | None = records[-1][1].get("commandstopic")
    return found


def event_from(type_name: str, data: dict[str, Any]) -> Event:
    """The event of this type; an older revision is upcast step by step (`upcast_v1_v2(data)` on its class)."""
    event_type = EVENTS.get(type_name)
    if event_type is None:
        event_type, data = _upcast(str(type_name), data)
    return from_plain(event_type, data)


def _upcast(type_name: str, data: dict[str, Any]) -> tuple[type[Event], dict[str, Any]]:
    stem, _, revision = type_name.rpartition(".v")
    event_type = _NEWEST.get(stem)
    if event_type is None or not revision.isdecimal():
        raise KeyError(f"unknown event type {type_name!r}")
    newest = int(event_type.type.rpartition(".v")[2])
    # Newer code has written it. To read only what we know of it would lose history, so the reader stops here.
    if int(revision) > newest:
        raise KeyError(f"unknown revision of {stem!r}: {revision}, the newest known is {newest}")
    for number in range(int(revision), newest):
        data = getattr(event_type, f"upcast_v{number}_v{number + 1}")(data)
    return event_type, data


_NEWEST: Final = {name.rpartition(".v")[0]: event for name, event in EVENTS.items()}
