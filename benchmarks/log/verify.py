"""Verification of a very long log: `muster verify`, as operators run it."""

import sqlite3
import time
from collections.abc import Iterator
from hashlib import sha256
from statistics import median

import orjson

from benchmarks.bench import EMBEDDED, Bench, Place
from benchmarks.log.restart import EVENTS, REGISTRATIONS
from benchmarks.process import python, watched
from benchmarks.table import Row, at_least
from infra.sqlite.folder import LOG_FILE


def run(bench: Bench) -> Iterator[Row]:
    """Events per second and the memory at its most, of the whole command."""
    place = bench.written(EMBEDDED, bench.size(REGISTRATIONS), bench.size(EVENTS - REGISTRATIONS))
    rates, shares, peaks = [], [], []
    for _ in range(bench.runs):
        seconds, share, peak, printed = watched(python("muster", "verify", "--data", place.data, "--json"))
        told = orjson.loads(printed)
        if not told["ok"]:
            raise RuntimeError(f"the log is damaged: {told}")
        rates.append(sum(part["events"] for part in told["partitions"]) / seconds)
        shares.append(share)
        peaks.append(peak)
    title = "muster verify, the same log"
    yield Row(
        *("verify", title, EMBEDDED, "per second", "/s", rates, at_least(100_000), _walked(place)),
        *("select, JSON and SHA-256 of each record, in one process", {"verifiers % core": median(shares)}),
    )
    yield Row("verify", title, EMBEDDED, "peak memory", "MB", peaks)


def _walked(place: Place) -> float:
    """Records per second of the least that verification must do, in one thread."""
    connection = sqlite3.connect(place.data / LOG_FILE)
    try:
        count, began = 0, time.perf_counter()
        for (state,) in connection.execute("SELECT state FROM stored_events ORDER BY originator_version"):
            orjson.loads(state)
            sha256(state).digest()
            count += 1
        return count / (time.perf_counter() - began)
    finally:
        connection.close()
