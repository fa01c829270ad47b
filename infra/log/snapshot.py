"""Snapshots of a partition's fold, so that a start does not read the whole log.

A snapshot is chunks and a manifest; the manifest is written last and names each chunk by its SHA-256, so half a snapshot is
none. Two generations alternate: the one being written never harms the one that is complete. Snapshots are only ever taken
from valid records, and a loader still reads the log from its cursor: a cursor that the log contradicts is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Protocol

import orjson

from infra.log.port import Cursor

chunk_bytes_max: Final = 800_000


@dataclass(frozen=True, slots=True)
class PartitionSnapshot:
    """A fold at `cursor`. `revision` names the code that folded; `facts` are small JSON values; `chunks` JSON documents."""

    cursor: Cursor
    revision: str
    facts: dict[str, Any]
    chunks: Sequence[bytes]


class SnapshotStore(Protocol):
    """Where the snapshots of one cluster are kept."""

    async def load(self, partition: int) -> PartitionSnapshot | None:
        """The newest complete snapshot of the partition."""

    async def save(self, partition: int, snapshot: PartitionSnapshot) -> None:
        """Keep the snapshot in place of the older generation."""


class SnapshotArchive(SnapshotStore, Protocol):
    """A store whose older generations can be looked at, too."""

    async def kept(self, partition: int) -> list[PartitionSnapshot]:
        """All whole snapshots of the partition, the newest first. Nothing is written, and no file is made."""


def manifest(snapshot: PartitionSnapshot, number: int) -> bytes:
    """The snapshot's manifest as JSON; `number` grows from snapshot to snapshot."""
    cursor = snapshot.cursor
    return orjson.dumps(
        {
            "number": number,
            "revision": snapshot.revision,
            "position": cursor.position,
            "head_position": cursor.head_position,
            "head": cursor.head.hex(),
            "term": cursor.term,
            "writer": cursor.writer,
            "facts": snapshot.facts,
            "chunks": [sha256(chunk).hexdigest() for chunk in snapshot.chunks],
        }
    )


def opened(manifest_: bytes) -> dict[str, Any] | None:
    """The manifest's document; None if it is damaged."""
    try:
        document: dict[str, Any] = orjson.loads(manifest_)
    except orjson.JSONDecodeError:
        return None
    return document if {"number", "chunks", "head", "facts"} <= document.keys() else None


def assembled(document: dict[str, Any], chunks: Sequence[bytes | None]) -> PartitionSnapshot | None:
    """The snapshot of a manifest and its chunks; None if a chunk is missing or is not the one that the manifest names."""
    hashes = document["chunks"]
    whole = [chunk for chunk in chunks if chunk is not None]
    if len(whole) != len(hashes) or [sha256(chunk).hexdigest() for chunk in whole] != hashes:
        return None
    cursor = Cursor(
        document["position"],
        document["head_position"],
        bytes.fromhex(document["head"]),
        document["term"],
        document["writer"],
    )
    return PartitionSnapshot(cursor, document["revision"], document["facts"], whole)
