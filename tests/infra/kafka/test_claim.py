"""Two who claim at the same time, without a fence of the broker's: whoever loses the reign must not be able to prove it."""

import asyncio
from random import Random
from typing import Any

import pytest
from aiokafka import TopicPartition

from infra.kafka.log import KafkaLog
from infra.kafka.topic import LIVENESS, topic_name
from infra.log.port import START
from muster.wire.error import Uncertain
from tests.simulation.broker import Broker


class Held(Broker):
    """A broker that keeps back what it answers to the first beat."""

    def __init__(self) -> None:
        super().__init__(Random(1), asyncio.get_running_loop().time)
        self.calm = True
        self.beaten, self.answers = asyncio.Event(), asyncio.Event()

    async def land(self, partition: TopicPartition, *batch: Any, **bounds: Any) -> int:
        landed = await super().land(partition, *batch, **bounds)
        if partition.topic == topic_name(LIVENESS) and not self.beaten.is_set():
            self.beaten.set()
            await self.answers.wait()
        return landed


async def test_who_reigns_since_our_beat_can_prove_it_no_more_once_we_reign():
    broker = Held()
    first, second = (KafkaLog("", 0, fence=False, appends=broker, reader=broker) for _ in range(2))
    claiming = asyncio.create_task(second.claim("second", START))
    await broker.beaten.wait()
    assert (await first.claim("first", START)).term == 1
    broker.answers.set()
    assert (await claiming).term == 2
    with pytest.raises(Uncertain, match="the beat landed at"):
        await first.beat()
    await second.claim("second", START)
    await second.beat()
