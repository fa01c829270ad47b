"""What the cases of sagas share: participants in another process under orders, keyspaces for them, and many moves at once."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import orjson

from benchmarks.bench import Bench
from benchmarks.load import http_load
from benchmarks.process import Usage, python, running, usage
from benchmarks.registry.http import PER_REQUEST, sent
from benchmarks.shards.fleet import Fleet

NODES: Final = 8
KEYSPACES: Final = 8


@dataclass(frozen=True, slots=True)
class Troupe:
    """The process of `benchmarks.load.participant`."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def usage(self) -> Usage:
        """What it has used so far."""
        return usage(self.process.pid)

    def order(self, text: str) -> dict[str, Any]:
        """Its answer, once the order is carried out."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the participants failed at {text!r}: {self.log.read_text()[-2000:]}")
        told: dict[str, Any] = orjson.loads(line)
        return told


@contextmanager
def troupe(bench: Bench, there: Fleet, shards: int) -> Iterator[Troupe]:
    """Participants that have opened `shards` shards of each of the keyspaces, and answer nothing but what the map wants."""
    log = bench.folder / "participant.log"
    with running(python("benchmarks.load.participant", there.url, NODES), log, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the participants failed: {log.read_text()[-2000:]}")
        started = Troupe(process, log)
        started.order("answer open")
        for number in range(KEYSPACES):
            there.create(f"k{number}", shards, *(f"n{node}" for node in range(NODES)))
        yield started


def move_all(there: Fleet, shards: int) -> None:
    """Begin a move of each shard of each keyspace to the node after its owner."""
    moves = []
    for number in range(KEYSPACES):
        for shard in there.ask("GET", f"/v1/keyspaces/k{number}/shards")["items"]:
            target = f"n{(int(shard['owner'][1:]) + 1) % NODES}"
            data = {"shard": shard["shard"], "target": target, "soak_seconds": 0, "cleanup_seconds": 0}
            stream = f"keyspace/k{number}"
            id_ = f"move-{number}-{shard['shard']}"
            moves.append({"id": id_, "type": "muster.shard.move.v1", "stream": stream, "data": data})
    if len(moves) != KEYSPACES * shards:
        raise RuntimeError(f"there are {len(moves)} shards, not {KEYSPACES * shards}")
    lists = [moves[at : at + PER_REQUEST] for at in range(0, len(moves), PER_REQUEST)]
    sent(there.controller.port, 4, [http_load.request("POST", "/v1/commands", {"commands": some}) for some in lists])


def limit_moves(there: Fleet, at_a_time: int) -> None:
    """Let this many moves run at a time, on any nodes."""
    there.ask("PUT", "/v1/cluster/limits", {"node_moves_max": at_a_time, "cluster_moves_max": at_a_time})
