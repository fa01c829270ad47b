"""The telemetry workers examined: which of them say that they are there, and how far they are behind."""

import asyncio
from contextlib import aclosing
from typing import Final

from infra.telemetry.rows import KafkaRows
from muster.wire.error import NotReady
from workers.doctor.finding import TIMEOUT_SECONDS, Finding
from workers.views.loads import Loads, SeenWorker

lag_seconds_good: Final = 1.0
_LISTEN_SECONDS: Final = 2.0


async def examine_telemetry(bootstrap: str, partitions: int, prefix: str) -> list[Finding]:
    """The findings about the workers under this prefix; none, where there is no topic of loads yet."""
    loads = Loads()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await _listen(KafkaRows(bootstrap, partitions, prefix), loads)
    except (NotReady, TimeoutError):
        return []  # The examination of the topics has said what is missing.
    workers = loads.workers()
    if not workers:
        return [Finding("ok", "telemetry", "no worker runs; instances with `heartbeats: topic` need one")]
    unwatched = loads.unwatched(range(partitions))
    findings = [_of(seen) for seen in workers if seen.state != "silent"]
    if unwatched:
        silent = ", ".join(seen.worker.worker for seen in workers if seen.state == "silent")
        found = f"{silent} is silent, and partitions {unwatched} are nobody's"
        findings.append(Finding("warning", "telemetry", found, "start `muster telemetry`"))
    return findings


async def _listen(rows: KafkaRows, loads: Loads) -> None:
    """Take in all that is there, and what is said for two seconds more: a worker speaks once a second."""
    end = asyncio.get_running_loop().time() + _LISTEN_SECONDS
    async with aclosing(rows.follow()) as following:
        async for records in following:
            for record in records:
                loads.take(record)
            if asyncio.get_running_loop().time() > end and all(record.age_seconds < 1 for record in records):
                return


def _of(seen: SeenWorker) -> Finding:
    worker = seen.worker
    subject = f"telemetry {worker.worker}"
    lag = "unknown" if worker.lag_seconds is None else f"{worker.lag_seconds:g} s"
    found = f"{len(worker.partitions)} partitions, {worker.instances} instances, {worker.silent} silent, lag {lag}"
    # While it reads what was before it is behind by design.
    if worker.lag_seconds is not None and worker.lag_seconds > lag_seconds_good and not worker.reading:
        return Finding("warning", subject, found, "start one more worker")
    return Finding("ok", subject, found)
