"""A controller in the simulation that takes the commands of its partition from the topic, too."""

import asyncio
from random import Random
from typing import Final

from tests.simulation.broker import Broker
from tests.simulation.commands.topic import Process, Topics
from tests.simulation.controller import Controller, Store
from workers.gateway import Gateway
from workers.writer.commands_topic import CommandsTopic

publish_seconds_max: Final = 5.0


class TopicController(Controller):
    """The real `CommandsTopic` and the real rules, on simulated topics."""

    def __init__(self, name: str, broker: Broker, store: Store, chance: Random, topics: Topics) -> None:
        super().__init__(name, broker, store, chance, fence=True, partitions=len(topics.brokers))
        self._topics = topics

    async def start(self, *, from_snapshot: bool) -> None:
        """A new process."""
        await super().start(from_snapshot=from_snapshot)
        self._process = Process()
        executors = {self.number: self.writer}
        gateway = Gateway("c", self.name, self.partitions, self.views, executors, {}, dict, lambda stream, instance: {})
        self.topic = CommandsTopic("", self.writer, gateway.refusals, clients=self._topics.clients(self._process))
        self.writer.observers.append(self.topic)
        self._consuming = asyncio.create_task(self.topic.run())

    async def crash(self) -> None:
        """SIGKILL: nothing that it has not sent leaves any more."""
        self._process.killed = True
        self._consuming.cancel()
        await super().crash()
        await asyncio.wait([self._consuming])

    async def stop(self) -> None:
        """SIGTERM: the helpers of a writer run until it has answered what waits."""
        await super().stop()
        publishing = asyncio.create_task(self.topic.published())
        await asyncio.wait([publishing], timeout=publish_seconds_max)  # The brokers here are slow.
        publishing.cancel()
        self._consuming.cancel()
        await asyncio.wait([self._consuming])

    def check(self) -> None:
        """Raises what has ended the writer or the topic."""
        super().check()
        if self._consuming.done():
            self._consuming.result()
