"""Asks the clients of a service whose checks fail together: what they saw is weighed once a second, where the service is written.

What they say stands in `Loads`; what it comes to is decided by the service itself (`domain.registry.doubt.opinion`). A controller
that does not write the partition looks too, for those who read there, and its command is dropped.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from domain.registry.doubt.opinion import WeighClients, verdict, words_command_max
from muster.wire.stream import service_stream
from muster.wire.telemetry.loads import ClientsWord
from workers.sagas.upkeep import Observe
from workers.views.loads import Loads
from workers.views.registry import RegistryViews

look_seconds: Final = 1.0


class SecondOpinion:
    """The second opinion on all services. `observe` queues a command from inside at the writer of its stream."""

    def __init__(self, observe: Observe, registry: RegistryViews, loads: Loads) -> None:
        self._observe = observe
        self._registry = registry
        self._loads = loads

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await asyncio.sleep(look_seconds)

    def look(self) -> None:
        """Weigh what the clients of each service say of its suspects."""
        told: dict[str, tuple[ClientsWord, ...]] = {}
        for service, suspects in self._registry.suspects.items():
            instances = self._registry.instances[service]
            doubted = {name: (instances[name].incarnation, since) for name, since in sorted(suspects.items())}
            words = told[service] = tuple(self._loads.words(service, doubted))
            # Only what comes to something: else a service of thousands would be weighed each second for nothing.
            self._weigh(service, [word for word in words if verdict(word, instances[word.instance])])
        self._loads.weighed(told)

    def _weigh(self, service: str, words: Sequence[ClientsWord]) -> None:
        for start in range(0, len(words), words_command_max):
            command = WeighClients(words=tuple(words[start : start + words_command_max]))
            self._observe(service_stream(service), command)
