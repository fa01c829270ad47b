"""How fast sagas go when their participants answer at once: steps and whole migrations, on either engine."""

from collections.abc import Iterator
from http.client import HTTPConnection
from itertools import islice
from typing import Any, Final

import orjson

from benchmarks.bench import Bench, middle
from benchmarks.controller import HOST
from benchmarks.floors import floor
from benchmarks.load import http_load
from benchmarks.registry.http import sent
from benchmarks.shards.fleet import Fleet, fleet, instant
from benchmarks.shards.watchers import KEYSPACES, limit_moves, move_all, troupe
from benchmarks.table import Row, at_least, at_most
from domain.message import Event
from domain.saga import SagaCompleted, SagaStarted, StepSucceeded
from sagas.shard_migration import SHARD_MIGRATION

_MIGRATIONS: Final = 2_000
_AT_A_TIME: Final = 32
_OF_PARTICIPANTS: Final = frozenset(
    ("prepare", "copy", "catch_up", "verify", "fence", "drain", "activate", "publish", "clean")
)
_ANSWER: Final = b'{"items":[{"id":"","status":"accepted","partition":0,"position":12345,"error":null}]}'


def run(bench: Bench) -> Iterator[Row]:
    """2,000 migrations, 32 of them at a time, of shards without content."""
    shards = max(1, bench.size(_MIGRATIONS) // KEYSPACES)
    for engine in bench.engines:
        results = []
        for _ in range(bench.runs):
            with fleet(bench, engine=engine) as there:
                results.append(_played(bench, there, shards))
        append = floor.appended_ms(bench, engine, floor.sealed(islice(_events(), bench.size(floor.BATCHES))))
        with floor.plain_http(_ANSWER, bench.folder / "plain.log") as port:
            plain = sent(port, 8, [_reports(max(1, round(middle(results, "reports"))))] * bench.size(4_000))
        title = f"{shards * KEYSPACES:,} migrations, {_AT_A_TIME} at a time, participants that answer at once"
        raw = f"raw append {append:.2f} ms, one step at a time"
        steps = len(SHARD_MIGRATION.steps)
        for figure, target, per_append in (("steps", 1_000, 1), ("migrations", 100, steps)):
            yield Row(
                "sagas",
                title,
                engine,
                f"{figure} per second",
                "/s",
                [result[f"{figure}_per_second"] for result in results],
                at_least(target),
                1e3 / append / per_append,
                raw,
                _notes(results) if figure == "steps" else {},
            )
        yield Row(
            "sagas",
            title,
            engine,
            "wanted to recorded p99",
            "ms",
            [result["p99_ms"] for result in results],
            at_most(100),
            plain["p99_ms"] + append,
            f"plain HTTP {plain['p99_ms']:.2f} + raw append {append:.2f}",
            {"p50 ms": middle(results, "p50_ms")},
        )


def _played(bench: Bench, there: Fleet, shards: int) -> dict[str, Any]:
    limit_moves(there, _AT_A_TIME)
    with troupe(bench, there, shards) as participants:
        before, cpu = participants.order("tell"), there.controller.usage.cpu_seconds
        participants.order("answer *")
        move_all(there, shards)
        there.wait(lambda: all(not space["migrating"] for space in _keyspaces(there)), "the end of all moves")
        told, used = participants.order("tell"), there.controller.usage.cpu_seconds - cpu
        stories = _stories(there, shards)
    seconds = max(instant(one["ended_at"]) for one in stories) - min(instant(one["started_at"]) for one in stories)
    steps = [step for story in stories for step in story["steps"]]
    waited = sorted(instant(s["ended_at"]) - instant(s["began_at"]) for s in steps if s["name"] in _OF_PARTICIPANTS)
    return {
        "steps_per_second": len(steps) / seconds,
        "migrations_per_second": len(stories) / seconds,
        "p50_ms": waited[len(waited) // 2] * 1e3,
        "p99_ms": waited[int(len(waited) * 0.99)] * 1e3,
        "controller_core_percent": used / seconds * 100,
        "generator_core_percent": (told["cpu_seconds"] - before["cpu_seconds"]) / seconds * 100,
        "controller_us": used / len(steps) * 1e6,
        "controller_mb": there.controller.usage.memory_mb,
        "reports": (told["answered"] - before["answered"]) / (told["requests"] - before["requests"]),
    }


def _keyspaces(there: Fleet) -> list[dict[str, Any]]:
    return list(there.ask("GET", "/v1/keyspaces")["items"])


def _stories(there: Fleet, shards: int) -> list[dict[str, Any]]:
    """All migrations with their steps; each must have completed without a second attempt."""
    connection, stories = HTTPConnection(HOST, there.controller.port, timeout=30), []
    for number in range(KEYSPACES):
        for migration in range(1, shards + 1):
            connection.request("GET", f"/v1/migrations/k{number}/{migration}")
            stories.append(orjson.loads(connection.getresponse().read()))
    connection.close()
    for story in stories:
        if story["phase"] != "completed" or any(step["attempts"] > 1 for step in story["steps"]):
            raise RuntimeError(f"a migration did not go through at once: {story}")
    return stories


def _notes(results: list[dict[str, Any]]) -> dict[str, float]:
    return {
        "controller % core": middle(results, "controller_core_percent"),
        "participants % core": middle(results, "generator_core_percent"),
        "controller µs each": middle(results, "controller_us"),
        "controller MB": middle(results, "controller_mb"),
        "reports per request": middle(results, "reports"),
    }


def _reports(count: int) -> bytes:
    """A request with this many reports, as participants send them."""
    extent = {"position": 3, "digest": "aa", "records": 1, "bytes": 9}
    reports = [
        {"id": f"keyspace/k0/migration/{number}/copy/1", "outcome": "done", "result": {"extent": extent}}
        for number in range(count)
    ]
    return http_load.request("POST", "/v1/tasks", {"node": "n0", "reports": reports})


def _events() -> Iterator[tuple[str, Event]]:
    """The sagas' own events of one migration after the other."""
    names = [step.name for step in SHARD_MIGRATION.steps]
    data = {"keyspace": "k0", "shard": 17, "epoch": 1, "source": "n1", "target": "n2", "soak_seconds": 0}
    result = {"extent": {"position": 3, "digest": "aa", "records": 1, "bytes": 9}}
    number = 0
    while True:
        number += 1
        stream = f"keyspace/k0/migration/{number}"
        yield stream, SagaStarted(saga=stream, definition=SHARD_MIGRATION.name, version=1, data=data, step=names[0])
        for name, following in zip(names, [*names[1:], None], strict=True):
            yield stream, StepSucceeded(step=name, attempt=1, result=result, next=following)
        yield stream, SagaCompleted()
