"""Believes nobody: compares the clients' journals, the files of stopped data nodes and the log, and says what is wrong.

    python -m examples.shards.checker --journals DIR --node n1=DIR --node n2=DIR … (--data DIR | --kafka HOST:PORT)

    the log      every invariant of moves that can be read off it; the shard map in the end; bytes moved
    the nodes    each shard is served by its owner of the map, with its epoch, and by nobody else; whatever else lies about
                 has a clean-up intent; pairs are in their shard; digests are those of the pairs; no write id counts twice
    the clients  each acknowledged write is there with its last value, or a later one that was under way; nothing else is
                 there; no read saw less than had been acknowledged before it began, nor more than had begun before it ended

Prints one JSON object. Exit code 1: something is wrong, and `breaches` says what.
"""

import argparse
import asyncio
import sys
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from domain import keyspace
from domain.driver import Extent, ShardId
from domain.message import Recorded, root
from domain.saga import SagaCompensated, SagaCompleted, StepSucceeded
from domain.shard import shard_of
from domain.shard_map import EVENTS, Keyspace
from examples.shards.journal import Operation, Told, told_by
from infra.codec import CloudEventMapper
from infra.embedded import open_embedded
from infra.kafka_engine import open_kafka
from infra.log import START
from infra.shard_record import ShardRecord, digest_hex
from infra.shard_store import ShardStore
from sagas.invariants import Invariants

BREACHES_TOLD_MAX: Final = 50
_SHARD_EVENTS: Final = frozenset(EVENTS)


@dataclass(slots=True)
class Findings:
    """What was looked at, and what is wrong."""

    breaches: list[str] = field(default_factory=list)
    events: int = 0
    completed: int = 0
    compensated: int = 0
    bytes_moved: int = 0
    shards: int = 0
    pairs: int = 0
    writes: int = 0
    unknown: int = 0
    exceptions: int = 0
    reads: int = 0
    longest_write_seconds: float = 0.0


@dataclass(slots=True)
class Log:
    """What the log says: the keyspaces in the end, and what was moved."""

    keyspaces: dict[str, Keyspace] = field(default_factory=dict)
    invariants: Invariants = field(default_factory=Invariants)


async def read_log(chosen: argparse.Namespace, findings: Findings) -> Log:
    """Fold the whole log."""
    log, mapper = Log(), CloudEventMapper()
    opened = (
        open_kafka(chosen.kafka, prefix=chosen.prefix) if chosen.kafka else open_embedded(chosen.data, read_only=True)
    )
    async with opened as engine:
        for number, partition in engine.logs.items():
            async for batch in partition.read(START):
                for position, document in batch.records:
                    _take(mapper.recorded(number, position, document), log, findings)
    findings.breaches += log.invariants.owed()
    return log


def _take(recorded: Recorded, log: Log, findings: Findings) -> None:
    findings.events += 1
    findings.breaches += log.invariants.take(recorded)
    event, name = recorded.event, root(recorded.stream).rpartition("/")[2]
    if type(event) in _SHARD_EVENTS:
        log.keyspaces[name] = keyspace.evolve(log.keyspaces.get(name, keyspace.INITIAL), event)
    elif isinstance(event, SagaCompleted):
        findings.completed += 1
    elif isinstance(event, SagaCompensated):
        findings.compensated += 1
    elif isinstance(event, StepSucceeded) and event.step == "copy":
        findings.bytes_moved += int(event.result["extent"]["bytes"])


@dataclass(slots=True)
class Copy:
    """A copy of a shard as it lies on a node: its pairs, and how often each write id stands in its log of changes."""

    node: str
    record: ShardRecord
    extent: Extent
    pairs: dict[str, bytes]
    write_ids: Counter[str]


def read_nodes(nodes: dict[str, Path]) -> dict[ShardId, list[Copy]]:
    """All copies of all shards."""
    found: dict[ShardId, list[Copy]] = {}
    for node, path in nodes.items():
        with closing(ShardStore(path)) as store:
            for shard, record in store.records():
                if record.copy:
                    found.setdefault(shard, []).append(_copy(store, node, shard, record))
    return found


def _copy(store: ShardStore, node: str, shard: ShardId, record: ShardRecord) -> Copy:
    if record.state not in ("serving", "fenced"):
        return Copy(node, record, record.extent, {}, Counter())
    with store.snapshot(shard) as snapshot:
        pairs = {key: value for part in snapshot.pairs() for key, value in part}
        extent = snapshot.recompute()
    ids: Counter[str] = Counter()
    after = record.log_first - 1
    while after < record.position:
        changes = store.changes(shard, after).changes
        ids.update(change.write_id for change in changes if change.write_id)
        after = changes[-1].position
    return Copy(node, record, extent, pairs, ids)


def check_nodes(name: str, state: Keyspace, copies: dict[ShardId, list[Copy]], findings: Findings) -> dict[str, bytes]:
    """Hold the nodes' files against the shard map; the keyspace's pairs as its owners serve them."""
    pairs: dict[str, bytes] = {}
    for number in range(state.count):
        shard, here = state.shard(number), copies.get(ShardId(name, number), [])
        serving = [copy for copy in here if copy.record.state == "serving"]
        owners = [copy.node for copy in serving if copy.record.epoch == shard.epoch]
        if shard.status == "active" and owners != [shard.owner]:
            findings.breaches.append(f"I1 {name}/{number} is {shard.owner}'s at {shard.epoch}, served by {owners}")
        for copy in here:
            if copy.node != shard.owner and (number, copy.node) not in state.cleanups:
                findings.breaches.append(f"I11 {name}/{number} lies about on {copy.node}: {copy.record.state}")
            if copy in serving and copy.node != shard.owner and shard.status == "active":
                findings.breaches.append(f"I2 {name}/{number} would still be served by {copy.node}")
        for copy in serving:
            if copy.node == shard.owner:
                findings.shards += 1
                pairs |= copy.pairs
                _check_copy(name, number, state, copy, findings)
    return pairs


def _check_copy(name: str, number: int, state: Keyspace, copy: Copy, findings: Findings) -> None:
    where = f"{name}/{number} on {copy.node}"
    strayed = [key for key in copy.pairs if shard_of(key, state.count) != number]
    if strayed:
        findings.breaches.append(f"{where} holds keys of other shards: {strayed[:3]}")
    kept = (digest_hex(copy.record.digest), copy.record.records, copy.record.bytes)
    if kept != (copy.extent.digest, copy.extent.records, copy.extent.bytes):
        findings.breaches.append(f"{where}: its digest and counts are not those of its pairs")
    twice = [id_ for id_, times in copy.write_ids.items() if times > 1]
    if twice:
        findings.breaches.append(f"I14 {where} applied writes twice: {twice[:3]}")


def check_writes(told: Told, pairs: dict[str, bytes], findings: Findings) -> None:
    """I3: every acknowledged write is there, with its last value, or a later one whose outcome nobody knows."""
    for key, operations in told.writes.items():
        found = _number(pairs.get(key))
        if found not in _possible(operations):
            last = next((one for one in reversed(operations) if one.acknowledged), None)
            detail = f"{last.number} by {last.id} was acknowledged last" if last else "nothing was acknowledged"
            findings.breaches.append(f"I3 {key} holds {found}, but {detail}")
    strangers = [key for key in pairs if key not in told.writes]
    if strangers:
        findings.breaches.append(f"I3 nobody wrote {strangers[:3]}")
    findings.pairs = len(pairs)
    for operation in told.operations:
        findings.writes += operation.acknowledged
        findings.unknown += operation.ended_at is None
        findings.exceptions += operation.error is not None
        findings.longest_write_seconds = max(findings.longest_write_seconds, operation.seconds)


def _possible(operations: list[Operation]) -> set[int | None]:
    """What a key may hold: what was acknowledged last, or any write behind it that may have been applied."""
    possible: set[int | None] = {None}
    for operation in operations:
        if operation.acknowledged:
            possible = {operation.number}
        else:
            possible.add(operation.number)
    return possible


def check_reads(told: Told, findings: Findings) -> None:
    """No read saw less than had been acknowledged before it began, nor more than had begun before it ended."""
    for read in told.reads:
        findings.reads += 1
        operations = told.writes.get(read.key, [])
        settled = [one for one in operations if one.acknowledged and (one.ended_at or 0.0) < read.began_at]
        first = operations.index(settled[-1]) if settled else -1
        seen = [one for one in operations[max(first, 0) :] if one.began_at <= read.ended_at]
        possible: set[int | None] = {one.number for one in seen} | ({None} if first < 0 else set())
        if read.number not in possible:
            findings.breaches.append(f"{read.key}: a read saw {read.number}, of {sorted(map(str, possible))[:5]}")


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)


async def check(chosen: argparse.Namespace) -> Findings:
    """All checks."""
    findings = Findings()
    log = await read_log(chosen, findings)
    told = told_by(sorted(chosen.journals.glob("*.jsonl")))
    copies = read_nodes({name: Path(path) for name, path in (node.split("=", 1) for node in chosen.node)})
    pairs: dict[str, bytes] = {}
    for name, state in log.keyspaces.items():
        pairs |= check_nodes(name, state, copies, findings)
    check_writes(told, pairs, findings)
    check_reads(told, findings)
    return findings


def shown(findings: Findings) -> dict[str, Any]:
    """The findings as JSON; not more than the first breaches."""
    told = asdict(findings)
    return {**told, "breaches": findings.breaches[:BREACHES_TOLD_MAX], "breaches_in_all": len(findings.breaches)}


def main() -> int:
    """0: nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journals", type=Path, required=True)
    parser.add_argument("--node", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--kafka")
    parser.add_argument("--prefix", default="muster")
    findings = asyncio.run(check(parser.parse_args()))
    print(orjson.dumps(shown(findings), option=orjson.OPT_INDENT_2).decode())
    return 1 if findings.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
