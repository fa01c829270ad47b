"""The Kafka engine: the log, the commands, the outcomes and the snapshots are topics, created or checked at the start."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from infra.kafka.appends import Appends
from infra.kafka.log import KafkaLog
from infra.kafka.provision import provision
from infra.kafka.snapshots import KafkaSnapshots
from infra.kafka.soundness import faults
from infra.kafka.topic import PARTITIONS, PREFIX
from infra.log.ahead import ReadAhead
from infra.log.engine import Engine

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_kafka(
    bootstrap: str,
    *,
    partitions: int | None = None,
    cluster: str = "default",
    prefix: str = PREFIX,
    create: bool = True,
) -> AsyncIterator[Engine]:
    """The cluster's topics on Kafka. Raises NotReady when Kafka does not answer or a topic would lose history."""
    count = partitions or PARTITIONS
    for finding in await provision(bootstrap, partitions=count, prefix=prefix, create=create):
        log.warning("%s", finding)
    async with AsyncExitStack() as stack:
        appends = Appends(bootstrap)
        stack.push_async_callback(appends.close)
        ahead = ReadAhead()
        logs = {
            number: await stack.enter_async_context(
                KafkaLog(bootstrap, number, prefix=prefix, source=f"/muster/{cluster}", appends=appends, ahead=ahead)
            )
            for number in range(count)
        }
        examine = partial(faults, bootstrap, partitions=count, prefix=prefix)
        yield Engine(f"Kafka at {bootstrap}, topics {prefix}.*", logs, KafkaSnapshots(bootstrap, prefix), examine)
