"""Tells the other controllers what data nodes have told to this one of the loads of their shards, by the topic `loads`.

A row that cannot be published is dropped, and so is one that a newer one of its node has overtaken: what comes next is newer.
"""

import asyncio
import logging
from typing import Final

from infra.kafka.topic import LOADS, topic_name
from infra.telemetry.publisher import KafkaPublisher, Outgoing
from muster.wire.error import MusterError
from muster.wire.route import partition_of
from muster.wire.stream import CLUSTER
from muster.wire.telemetry.shard_loads import NodeLoads, encode, key_of

pause_seconds: Final = 0.5
"""Between two turns: a row a node and turn at most, however often the node tells."""

publish_seconds_max: Final = 5.0
_AGAIN_SECONDS: Final = 5.0
_LOG: Final = logging.getLogger("muster.loads")


class ToldLoads:
    """The newest row of each node that is still to be published; `run` publishes them."""

    def __init__(self, bootstrap: str, partitions: int, prefix: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic_name(LOADS, prefix)
        # All rows of nodes are in one partition; all partitions are followed by everybody.
        self._partition = partition_of(CLUSTER, partitions)
        self._waiting: dict[str, NodeLoads] = {}
        self._more = asyncio.Event()

    def tell(self, row: NodeLoads) -> None:
        """Have the others hear of it."""
        self._waiting[row.node] = row
        self._more.set()

    async def run(self) -> None:
        """Publish, for ever."""
        while True:
            try:
                async with KafkaPublisher(self._bootstrap) as publisher:
                    while True:
                        await self._more.wait()
                        self._more.clear()
                        rows, self._waiting = self._waiting, {}
                        await publisher.publish([self._record(row) for row in rows.values()], publish_seconds_max)
                        await asyncio.sleep(pause_seconds)
            except MusterError as error:
                _LOG.warning("the loads of data nodes are not told to other controllers now: %s", error.detail)
                await asyncio.sleep(_AGAIN_SECONDS)

    def _record(self, row: NodeLoads) -> Outgoing:
        return Outgoing(self._topic, self._partition, key_of(row).encode(), encode(row))
