"""Two controllers on one Kafka: the first is killed and stays dead, and nobody who knew its address alone is told an error."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from examples.demo.cluster import SECOND, eventually
from examples.demo.compare import positions, watch_breaches
from examples.demo.load import PAUSE_SECONDS, stopped
from examples.demo.screen import HIDDEN
from examples.demo.stage import Stage, all_events, milliseconds, some
from muster import Client, MusterError, Node

DEAD_SECONDS: Final = 6.0
"""Longer than the lease of a data node, which is 5 s."""

WRITER: Final = "writer"


class Flips:
    """Reports of one instance's health, one after the other, each a change: sent until stopped."""

    def __init__(self) -> None:
        self.count = 0
        self.failed: list[str] = []
        self.slowest_seconds = 0.0

    async def run(self, url: str) -> None:
        """Report, for ever."""
        async with Client(url, actor=WRITER) as client:
            await client.register(HIDDEN, WRITER, "127.0.0.1", 9)
            while True:
                began = time.monotonic()
                try:
                    await client.report_health(HIDDEN, WRITER, "unhealthy" if self.count % 2 else "healthy")
                    self.count += 1
                except MusterError as error:
                    self.failed.append(f"{error.name}: {error.detail}")
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
                await asyncio.sleep(PAUSE_SECONDS)


class Failover:
    """A second controller, from its start on, and a writer around the death of the first."""

    def __init__(self, stage: Stage, nodes: Sequence[str]) -> None:
        self._stage = stage
        self._nodes = nodes
        self._flips = Flips()
        self._writing: asyncio.Task[None] | None = None
        self._before: list[Node] = []

    async def start(self) -> None:
        """Start the second controller."""
        self._stage.screen.step("A second controller joins on the same Kafka")
        self._stage.claims.figure(
            "second controller: start → ready", milliseconds(await self._stage.cluster.start_controller(SECOND))
        )

    async def write(self) -> None:
        """Start the writer, and wait until everyone has learned of the second controller from the first."""
        cluster, client = self._stage.cluster, self._stage.client
        second = cluster.url_of(SECOND)

        async def learned() -> bool:
            logs = map(cluster.log_of, self._nodes)
            return second in client.urls and all(second in log for log in logs)

        await eventually(learned, "client and data nodes have learned of the second controller", 20.0)
        self._before = list((await client.shards.nodes()).items)
        self._writing = asyncio.create_task(self._flips.run(f"{cluster.url},{second}"), name="flips")

        async def writes() -> bool:
            return self._flips.count > 10

        await eventually(writes, "the writer writes", 10.0)

    async def claim(self, killed_at: float) -> None:
        """What has come of the death by now, after more than a lease; then the first controller starts again."""
        stage, second = self._stage, self._stage.cluster.url_of(SECOND)
        await asyncio.sleep(max(0.0, killed_at + DEAD_SECONDS - time.monotonic()))
        tool = await stage.cluster.tool("nodes", "--url", f"{stage.cluster.url},{second}")
        assert self._writing is not None, "write first"
        ended = self._writing.done()
        await stopped(self._writing)
        flips = self._flips
        stage.claims.figure(
            f"writes while the first controller was dead for {DEAD_SECONDS:g} s",
            f"{flips.count}, {len(flips.failed)} failed, slowest {milliseconds(flips.slowest_seconds)}",
        )
        stage.claims.claim(
            "a writer, clients and the command line went on at the second controller, without an error",
            not flips.failed and not ended and tool.exit_code == 0 and stage.client.url == second,
            f"{flips.count} writes" + some(flips.failed) + tool.error.strip(),
        )
        await self._claim_leases()
        await self._claim_watch()
        await stage.cluster.start_controller()

    async def _claim_leases(self) -> None:
        nodes = (await self._stage.client.shards.nodes(consistency="strong")).items
        before = {node.node: node.incarnation for node in self._before}
        self._stage.claims.claim(
            "no data node lost its lease, though its controller was dead for longer than that",
            all(node.alive for node in nodes) and {node.node: node.incarnation for node in nodes} == before,
            ", ".join(node.node if node.alive else f"{node.node} lost" for node in nodes),
        )

    async def _claim_watch(self) -> None:
        watcher, events = self._stage.watcher, await all_events(self._stage.client)
        [first, *_] = watcher.changes
        since = positions(first.token)

        def found() -> list[str]:
            return watch_breaches(events, watcher.changes, since)

        # What was written last may still be on its way to the watcher.
        async def caught_up() -> bool:
            return not found()

        await eventually(caught_up, "the watcher was told each change once", 5.0)
        self._stage.claims.claim(
            "the watcher resumed at the second controller without a gap or a repeat",
            not found(),
            f"{len(watcher.changes) - 1} changes" + some(found()),
        )
