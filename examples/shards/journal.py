"""A client's journal: what it asked, when, and what it was told; one JSON list a line, each written before the next thing.

["write", operation, key, number | null, at]      a put of this number, or a delete (null), begins
["done", operation, at, shard, position, epoch]   it was acknowledged
["failed", operation, at, error]                  an exception reached the caller: the outcome is unknown
["read", key, began, ended, number | null]        what a get has found

Instants are of the machine's monotonic clock, so that journals of several processes can be compared. Every key has one
writer, which waits for each answer: numbers of a key grow, and at most one operation of it is under way.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson


class Journal:
    """The file, to be written. A line is with the operating system when `note` returns, so it survives a SIGKILL."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(self, *line: Any) -> None:
        """Write a line."""
        os.write(self._file, orjson.dumps(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@dataclass(slots=True)
class Operation:
    """A write: `number` None deletes. `ended_at` None: nobody knows what became of it; so does `error`."""

    id: str
    key: str
    number: int | None
    began_at: float
    ended_at: float | None = None
    shard: int = -1
    position: int = 0
    epoch: int = 0
    error: str | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether the caller was told that it is durable."""
        return self.ended_at is not None and self.error is None

    @property
    def seconds(self) -> float:
        """How long the caller waited."""
        return 0.0 if self.ended_at is None else self.ended_at - self.began_at


@dataclass(frozen=True, slots=True)
class Read:
    """What a get has found."""

    key: str
    began_at: float
    ended_at: float
    number: int | None


@dataclass(slots=True)
class Entries:
    """What all journals say: the operations by key in their order, and the reads."""

    writes: dict[str, list[Operation]] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)

    @property
    def operations(self) -> Iterator[Operation]:
        """All writes."""
        for found in self.writes.values():
            yield from found


def read_journals(files: Iterable[Path]) -> Entries:
    """The journals, read. A last line that was cut off is left out."""
    entries = Entries()
    for file in files:
        by_id: dict[str, Operation] = {}
        for line in file.read_bytes().split(b"\n")[:-1]:
            _take(entries, by_id, orjson.loads(line))
    return entries


def _take(entries: Entries, by_id: dict[str, Operation], line: list[Any]) -> None:
    match line:
        case ["write", id_, key, number, at]:
            by_id[id_] = Operation(id_, key, number, at)
            entries.writes.setdefault(key, []).append(by_id[id_])
        case ["done", id_, at, shard, position, epoch]:
            found = by_id[id_]
            found.ended_at, found.shard, found.position, found.epoch = at, shard, position, epoch
        case ["failed", id_, at, error]:
            by_id[id_].ended_at, by_id[id_].error = at, error
        case ["read", key, began, ended, number]:
            entries.reads.append(Read(key, began, ended, number))
        case _:
            raise ValueError(f"no line of a journal: {line}")
