"""Believes nobody: compares the clients' journals, the files of stopped data nodes and the log, and says what is wrong.

    python -m examples.shards.checker --journals DIR --node n1=DIR --node n2=DIR … (--data DIR | --kafka HOST:PORT)

    the log      every invariant of moves that can be read off it; the shard map in the end; bytes moved
    the nodes    each shard is served by its owner of the map, with its epoch, and by nobody else; whatever else lies about
                 has a clean-up intent; pairs are in their shard; digests are those of the pairs; no write id counts twice
    the clients  each acknowledged write is there with its last value, or a later one that was under way; nothing else is
                 there; no read saw less than was certain before it began, nor more than had begun before it ended; nothing
                 was acknowledged that a move left behind; each write counts once, as the change that its caller was told

The journals are those of one keyspace's clients. Prints one JSON object. Exit code 1: something is wrong, and `breaches`
says what.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from domain.message import Recorded
from domain.saga import SagaCompensated, SagaCompleted, StepSucceeded
from domain.shards import keyspace
from domain.shards.shard import Keyspace, ShardMoved
from examples.shards.check_clients import Ends, check_clients
from examples.shards.check_nodes import check_nodes, read_nodes
from examples.shards.findings import Findings
from examples.shards.journal import read_journals
from infra.kafka.engine import open_kafka
from infra.log.codec import CloudEventMapper
from infra.log.port import START
from infra.sqlite.engine import open_embedded
from muster.wire.shards.driver import ShardId
from muster.wire.stream import root_of
from sagas.invariants.log import Invariants

_SHARD_EVENTS: Final = frozenset(keyspace.DECIDER.events)


@dataclass(slots=True)
class Log:
    """What the log says: the keyspaces in the end, and where each move took over. `drained`: by move, up to which change."""

    keyspaces: dict[str, Keyspace] = field(default_factory=dict)
    ends: Ends = field(default_factory=dict)
    drained: dict[str, int] = field(default_factory=dict)
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
    event, name = recorded.event, root_of(recorded.stream).rpartition("/")[2]
    if type(event) in _SHARD_EVENTS:
        log.keyspaces[name] = keyspace.evolve(log.keyspaces.get(name, keyspace.INITIAL), recorded)
    match event:
        case ShardMoved():
            end = (event.epoch - 1, log.drained.get(event.migration, 0))
            log.ends.setdefault(ShardId(name, event.shard), []).append(end)
        case SagaCompleted():
            findings.completed += 1
        case SagaCompensated():
            findings.compensated += 1
        case StepSucceeded(step="copy"):
            findings.bytes_moved += int(event.result["extent"]["bytes"])
        case StepSucceeded(step="drain"):
            log.drained[recorded.stream] = int(event.result["extent"]["position"])


async def check(chosen: argparse.Namespace) -> Findings:
    """All checks."""
    findings = Findings()
    log = await read_log(chosen, findings)
    entries = read_journals(sorted(chosen.journals.glob("*.jsonl")))
    copies = read_nodes({name: Path(path) for name, path in (node.split("=", 1) for node in chosen.node)})
    owned = check_nodes(log.keyspaces, copies, findings)
    check_clients(chosen.keyspace, entries, owned, log.ends, findings)
    return findings


def main() -> int:
    """0: nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journals", type=Path, required=True)
    parser.add_argument("--keyspace", default="users", help="whose clients wrote the journals")
    parser.add_argument("--node", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--kafka")
    parser.add_argument("--prefix", default="muster")
    findings = asyncio.run(check(parser.parse_args()))
    print(orjson.dumps(findings.shown(), option=orjson.OPT_INDENT_2).decode())
    return 1 if findings.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
