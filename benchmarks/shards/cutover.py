"""The write pause at the cut-over of a move, as a client sees it; and a cut-over that cannot finish."""

import time
from collections.abc import Callable, Iterator
from statistics import median
from subprocess import PIPE
from typing import Any, Final, TypeVar

import orjson

from benchmarks.bench import EMBEDDED, Bench, middle
from benchmarks.process import python, running
from benchmarks.shards.fleet import Fleet, fleet, instant, step
from benchmarks.table import Row, at_most
from sagas.shard_migration import cutover_seconds

KEYSPACE: Final = "moved"
PER_SECOND: Final = 500.0
_MOVES: Final = 50
_CALM_SECONDS: Final = 5.0
_HOLD_SECONDS: Final = 10.0
_STUCK_HOLD_SECONDS: Final = 60.0
_STUCK_PER_SECOND: Final = 20.0
"""Few: when a shard serves again, the first answer waits for all the writes that were held to be sent."""

_ABORT_SECONDS_MAX: Final = 10.5
T = TypeVar("T")


def run(bench: Bench) -> Iterator[Row]:
    """500 writes a second to a shard that moves to and fro."""
    moves, calm, moved = bench.size(_MOVES), [], []
    for _ in range(bench.runs):
        with fleet(bench, "n1", "n2") as there:
            there.create(KEYSPACE, 1, "n1")
            calm.append(_while_writing(bench, there, lambda: time.sleep(max(1.0, _CALM_SECONDS * bench.scale)))[0])
            moved.append(_paused(bench, there, moves))
    for figure, at, most in (("p50", 0.5, 50), ("p99", 0.99, 500)):
        yield Row(
            "cutover",
            f"longest write at each of {moves} cut-overs, {PER_SECOND:.0f} writes/s on the shard",
            EMBEDDED,
            figure,
            "ms",
            [_quantile(result["pauses"], at) * 1e3 for result in moved],
            at_most(most),
            median(_quantile(result["seconds"], at) * 1e3 for result in calm),
            "a write while nothing moves",
            _notes(moved) if figure == "p50" else {},
        )
    errors = [float(sum(result["errors"].values())) for result in moved]
    yield Row("cutover", "errors that reached the client", EMBEDDED, "writes", "", errors, at_most(0))


def run_abort(bench: Bench) -> Iterator[Row]:
    """The target hangs in the middle of a cut-over: until the source serves again."""
    stuck = []
    for _ in range(bench.runs):
        with fleet(bench, "n1", "n2") as there:
            there.create(KEYSPACE, 1, "n1")
            stuck.append(_stuck(bench, there, "n2"))
    yield Row(
        "cutover_abort",
        "the target hangs behind the fence; from the fence to the next acknowledged write",
        EMBEDDED,
        "at the source",
        "s",
        [result["seconds"] for result in stuck],
        at_most(_ABORT_SECONDS_MAX),
        cutover_seconds,
        "the definition's window for cut-overs",
        {"turned back at s": middle(stuck, "turned_seconds")},
    )


def _paused(bench: Bench, there: Fleet, moves: int) -> dict[str, Any]:
    """What the writer tells, with the longest write at each cut-over."""
    before, began = there.cpu_seconds(), time.monotonic()
    told, migrations = _while_writing(
        bench,
        there,
        lambda: [there.moved(KEYSPACE, 0, "n1" if turn % 2 else "n2") for turn in range(moves)],
    )
    seconds = time.monotonic() - began
    writes = list(zip(told["sent_at"], told["seconds"], strict=True))
    told["pauses"] = [_longest(writes, migration) for migration in migrations]
    told["fenced_ms"] = median(_cut_over(migration)[1] - _cut_over(migration)[0] for migration in migrations) * 1e3
    for role, cpu in there.cpu_seconds().items():
        told[f"{role}_core_percent"] = (cpu - before[role]) / seconds * 100
    return told


def _cut_over(migration: dict[str, Any]) -> tuple[float, float]:
    """From when to when the shard took no writes, or its clients had yet to hear who takes them."""
    return instant(step(migration, "close")["began_at"]), instant(step(migration, "publish")["ended_at"])


def _longest(writes: list[tuple[float, float]], migration: dict[str, Any]) -> float:
    """The longest of the writes that were under way at some moment of the cut-over, in seconds."""
    began, ended = _cut_over(migration)
    under_way = [seconds for sent_at, seconds in writes if sent_at < ended and sent_at + seconds > began]
    if not under_way:
        raise RuntimeError(f"no write was under way at the cut-over of {migration['id']}")
    return max(under_way)


def _stuck(bench: Bench, there: Fleet, target: str) -> dict[str, float]:
    """Stop the target while its verified copy waits at the gate, and let the move go on."""
    path = there.move(KEYSPACE, 0, target, hold=True)
    there.wait_for_step(path, "gate")

    def hang() -> None:
        with there.nodes[target].stopped():
            there.ask("POST", f"{path}/resume")
            there.wait_for_step(path, "discard")

    told, _ = _while_writing(bench, there, hang, per_second=_STUCK_PER_SECOND, hold_seconds=_STUCK_HOLD_SECONDS)
    migration = there.ended(path, "compensated")
    closed = instant(step(migration, "close")["began_at"])
    if told["errors"]:
        raise RuntimeError(f"writes failed though their client was patient: {told['errors']}")
    served = min(
        sent_at + seconds
        for sent_at, seconds in zip(told["sent_at"], told["seconds"], strict=True)
        if sent_at + seconds > instant(step(migration, "reclaim")["began_at"])
    )
    return {"seconds": served - closed, "turned_seconds": instant(step(migration, "reclaim")["began_at"]) - closed}


def _while_writing(
    bench: Bench,
    there: Fleet,
    work: Callable[[], T],
    *,
    per_second: float = PER_SECOND,
    hold_seconds: float = _HOLD_SECONDS,
) -> tuple[dict[str, Any], T]:
    """What the writer tells of the time of the work, and what that returned. Raises when an acknowledged write is lost."""
    log = bench.folder / "writer.log"
    command = python("benchmarks.load.writer", there.url, KEYSPACE, per_second, hold_seconds)
    with running(command, log, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the writer failed: {log.read_text()[-2000:]}")
        done = work()
        process.stdin.close()
        told: dict[str, Any] = orjson.loads(process.stdout.read())
    if told["lost"]:
        raise RuntimeError(f"{told['lost']} acknowledged writes are lost")
    return told, done


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


def _notes(results: list[dict[str, Any]]) -> dict[str, float]:
    return {
        "close to publish ms": middle(results, "fenced_ms"),
        "longest of all writes ms": median(max(result["seconds"]) for result in results) * 1e3,
        "retries": middle(results, "retries"),
        "writer late ms": middle(results, "latest_ms"),
        "generator % core": middle(results, "generator_core_percent"),
        "nodes % core": middle(results, "nodes_core_percent"),
        "controller % core": middle(results, "controller_core_percent"),
    }
