"""Tells a controller every few seconds what the shards of this node have to do; whatever becomes of that, the node serves on."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from muster.agent.settle import Local
from muster.client.transport import Transport, path_of
from muster.wire.command import new_id
from muster.wire.error import MusterError
from muster.wire.shards.driver import ShardId
from muster.wire.telemetry.shard_loads import ShardLoadReport, document_of, judged_report, told_of

tell_seconds: Final = 5.0
_LOG: Final = logging.getLogger("muster.agent")

LoadOf = Callable[[ShardId], ShardLoadReport | tuple[float | None, ...]]
"""Says what a shard has to do: reads and writes per second, and the bytes that it holds; None: unknown."""


class LoadTelling:
    """Asks `load` about each shard that serves here, and sends what it says. `incarnation`: the node's; None: it is no member."""

    def __init__(
        self, transport: Transport, node: str, incarnation: Callable[[], int | None], local: Local, load: LoadOf
    ) -> None:
        self._transport = transport
        self._node = node
        self._incarnation = incarnation
        self._local = local
        self._load = load
        self._failing = False

    async def run(self) -> None:
        """Tell, for ever."""
        while True:
            await asyncio.sleep(tell_seconds)
            try:
                await self._tell()
            except MusterError as error:
                # Nothing is tried again: what comes next is newer. A controller of before knows no such route.
                _LOG.debug("the loads of %s were not heard: %s", self._node, error.detail)

    async def _tell(self) -> None:
        incarnation = self._incarnation()
        if incarnation is None:
            return
        serving = [copy.shard for copy in await self._local() if copy.state == "serving"]
        reports = {shard: report for shard in serving if (report := self._asked(shard)) is not None}
        self._failing = len(reports) < len(serving)
        # Sent also when there is none: a node without shards has nothing to do, and that is what makes it a good target.
        body = document_of(told_of(reports)) | {"incarnation": incarnation}
        path = path_of("nodes", self._node, "loads")
        await self._transport.write("POST", path, body, command_id=new_id(), timeout_seconds=tell_seconds)

    def _asked(self, shard: ShardId) -> ShardLoadReport | None:
        try:
            return judged_report(tuple(self._load(shard)))
        except Exception:  # noqa: BLE001 it is the store's code, and may raise anything
            # Once until it works again: every five seconds for each shard would hide all else.
            if not self._failing:
                _LOG.exception("the load of %s is not told: the function that should say it has failed", shard)
                self._failing = True
            return None
