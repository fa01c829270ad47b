"""The file that all members of a group append to, and what has to hold of it: in itself, and beside the group's log. Pure.

    epoch member number instant process          one line for each append

`number` counts the appends of one process, `instant` is the time of day just before the append.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from muster.wire.registry.answers import Event


class Entry(NamedTuple):
    """One append."""

    epoch: int
    member: str
    number: int
    at: float
    process: int

    def __str__(self) -> str:
        return f"entry {self.number} of {self.member} (process {self.process}) for epoch {self.epoch}"


class Reign(NamedTuple):
    """An epoch as the log has it: whose it is, when its end was proven (None: it was not), and how it ended."""

    member: str
    ended_at: float | None = None
    how: str | None = None


def read_entries(file: Path) -> list[Entry]:
    """All appends, in the order of the file."""
    # The end of the file may be half of a line: its writer is at it, or was killed over it.
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    fields = [line.decode().split(" ") for line in lines]
    return [Entry(int(epoch), member, int(n), float(at), int(pid)) for epoch, member, n, at, pid in fields]


def reigns_of(events: Iterable[Event]) -> dict[int, Reign]:
    """The epochs of the one group in these events."""
    found: dict[int, Reign] = {}
    for event in events:
        match event.type:
            case "muster.group.member_promoted.v1":
                found[event.data["epoch"]] = Reign(event.data["member"])
            case "muster.group.reclaimed.v1":
                # The same member has it again, with another epoch, and what runs for the one before need not have ended yet.
                before = event.data["epoch"] - 1
                found[before] = found[before]._replace(how="given back")
                found[event.data["epoch"]] = Reign(event.data["member"])
            case "muster.group.primary_ended.v1":
                ended = found[event.data["epoch"]]
                found[event.data["epoch"]] = ended._replace(ended_at=event.at.timestamp(), how=event.data["how"])
    return found


def overlaps(entries: Sequence[Entry]) -> Iterator[str]:
    """Entries of an older epoch behind those of a newer one: the one thing that must never be."""
    newest: Entry | None = None
    for entry in entries:
        if newest is not None and entry.epoch < newest.epoch:
            yield f"{entry} stands behind {newest}"
        elif newest is None or entry.epoch > newest.epoch:
            newest = entry


def misnumbered(entries: Sequence[Entry]) -> Iterator[str]:
    """Appends that are missing, or were made twice: the file itself would be no witness then."""
    by_process: dict[tuple[int, int], list[Entry]] = {}
    for entry in entries:
        by_process.setdefault((entry.process, entry.epoch), []).append(entry)
    for found in by_process.values():
        if found[0].number != 1:
            yield f"{found[0]} is the first one of its process"
        for one, other in pairwise(found):
            if other.number != one.number + 1:
                yield f"{other} follows {one}"


def strangers(entries: Sequence[Entry], reigns: dict[int, Reign]) -> Iterator[str]:
    """Entries of epochs that the log has given to nobody, or to another member."""
    for epoch, member in sorted({(entry.epoch, entry.member) for entry in entries}):
        if epoch not in reigns or reigns[epoch].member != member:
            yield f"{member} has written for epoch {epoch}, which the log gave to {reigns.get(epoch)}"


def outlived(entries: Sequence[Entry], reigns: dict[int, Reign]) -> Iterator[str]:
    """Entries that were written after the log had said that their epoch was over; not to be held against a host that froze."""
    last = {entry.epoch: entry for entry in sorted(entries, key=lambda entry: entry.at)}
    for epoch, entry in last.items():
        ended_at = reigns[epoch].ended_at if epoch in reigns else None
        if ended_at is not None and entry.at > ended_at:
            late = 1_000 * (entry.at - ended_at)
            yield f"{entry} was written {late:.1f} ms after the epoch had ended ({reigns[epoch].how})"
