"""Checks the clients' journals: what they were answered, compared with what is there in the end and with the log."""

from math import inf
from typing import Final

from examples.shards.check_nodes import Copies
from examples.shards.findings import Findings
from examples.shards.journal import Entries, Operation
from infra.shards.store import ids_max
from muster.wire.shards.driver import ShardId

Ends = dict[ShardId, list[tuple[int, int]]]
"""By shard, of each of its committed moves: the source's epoch, and the last change that the target took over."""

Seen = dict[tuple[str, int], float]
"""When a write was first known to have been read, by key and number."""

_NOWHERE: Final = -1


def check_clients(keyspace: str, entries: Entries, owned: Copies, ends: Ends, findings: Findings) -> None:
    """All that can be said about the journals of the keyspace's clients."""
    pairs = {
        key: value
        for shard, copies in owned.items()
        if shard.keyspace == keyspace
        for copy in copies
        for key, value in copy.pairs.items()
    }
    seen = first_seen(entries)
    check_values(entries, pairs, seen, findings)
    check_reads(entries, seen, findings)
    check_answers(keyspace, entries, ends, findings)
    check_ids(keyspace, entries, owned, findings)
    findings.pairs = len(pairs)
    for operation in entries.operations:
        findings.writes += operation.acknowledged
        findings.unknown += operation.ended_at is None
        findings.exceptions += operation.error is not None
        findings.longest_write_seconds = max(findings.longest_write_seconds, operation.seconds)


def first_seen(entries: Entries) -> Seen:
    """What was read is as certain as what was acknowledged."""
    seen: Seen = {}
    for read in entries.reads:
        if read.number is not None:
            at = (read.key, read.number)
            seen[at] = min(seen.get(at, inf), read.ended_at)
    return seen


def check_values(entries: Entries, pairs: dict[str, bytes], seen: Seen, findings: Findings) -> None:
    """I3: every acknowledged write is there, with its last value, or a later one whose outcome nobody knows."""
    for key, operations in entries.writes.items():
        found = _number(pairs.get(key))
        first = _last_certain(operations, seen, inf)
        possible: set[int | None] = {one.number for one in operations[max(first, 0) :]}
        if found not in possible | ({None} if first == _NOWHERE else set()):
            last = operations[first]
            detail = f"{last.number} by {last.id} was the last that is certain" if first >= 0 else "that was never put"
            findings.breach(f"I3 {key} holds {found}, but {detail}")
    strangers = [key for key in pairs if key not in entries.writes]
    if strangers:
        findings.breach(f"I3 nobody wrote {strangers[:3]}")


def check_reads(entries: Entries, seen: Seen, findings: Findings) -> None:
    """No read saw less than was certain before it began, nor more than had begun before it ended."""
    for read in entries.reads:
        findings.reads += 1
        operations = entries.writes.get(read.key, [])
        first = _last_certain(operations, seen, read.began_at)
        possible: set[int | None] = {one.number for one in operations[max(first, 0) :] if one.began_at <= read.ended_at}
        if read.number not in possible | ({None} if first == _NOWHERE else set()):
            findings.breach(f"I3 {read.key}: a read saw {read.number}, of {sorted(map(str, possible))[:5]}")


def _last_certain(operations: list[Operation], seen: Seen, before: float) -> int:
    """The index of the last write that was acknowledged, or read, before then; -1: none was."""
    for index in range(len(operations) - 1, -1, -1):
        one = operations[index]
        certain_at = (one.ended_at or inf) if one.acknowledged else inf
        if one.number is not None:
            certain_at = min(certain_at, seen.get((one.key, one.number), inf))
        if certain_at < before:
            return index
    return _NOWHERE


def check_answers(keyspace: str, entries: Entries, ends: Ends, findings: Findings) -> None:
    """I2: nobody acknowledged a change that its shard did not take along; and no two writes are one change."""
    taken: dict[tuple[int, int], str] = {}
    for one in entries.operations:
        if not one.acknowledged:
            continue
        for epoch, last in ends.get(ShardId(keyspace, one.shard), ()):
            if one.epoch <= epoch and one.position > last:
                change = (
                    f"change {one.position} of shard {one.shard} ({one.id}) was acknowledged with epoch {one.epoch}"
                )
                findings.breach(f"I2 {change}, which ended with change {last}")
        other = taken.setdefault((one.shard, one.position), one.id)
        if other != one.id:
            findings.breach(f"I2 {other} and {one.id} were both acknowledged as change {one.position} of {one.shard}")


def check_ids(keyspace: str, entries: Entries, owned: Copies, findings: Findings) -> None:
    """I14: each write counts as the change as which it was acknowledged; those of a shard are known as long as there is room."""
    for one in entries.operations:
        for copy in owned.get(ShardId(keyspace, one.shard), ()) if one.acknowledged else ():
            position = copy.write_ids.get(one.id)
            if position is None and len(copy.write_ids) < ids_max:
                findings.breach(f"I14 {copy.node} has forgotten {one.id}: it would be applied twice")
            elif position is not None and position != one.position:
                findings.breach(f"I14 {one.id} was acknowledged as change {one.position}, but counts as {position}")


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)
