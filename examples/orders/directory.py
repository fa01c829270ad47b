"""Where a service is, right now: a local list that a watch keeps current.

A call then costs no request to the controller, and goes on working while no controller runs.
"""

import asyncio
from itertools import count

from muster import Appeared, Changed, Client, Instance, Removed, Snapshot


class Directory:
    """The instances of one service. `known` is set once the first list is here."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.known = asyncio.Event()
        self._instances: dict[str, Instance] = {}
        self._turns = count()

    async def follow(self, client: Client) -> None:
        """Keep the list current, for ever; the watch outlives restarts of the controller by itself."""
        async for change in client.watch(self.service):
            match change:
                case Snapshot(instances=instances):
                    self._instances = {instance.instance: instance for instance in instances}
                    self.known.set()
                case Appeared(instance=instance) | Changed(instance=instance):
                    self._instances[instance.instance] = instance
                case Removed(instance=instance):
                    self._instances.pop(instance.instance, None)

    def choices(self) -> list[Instance]:
        """All that can take traffic, another one first each time: try them in this order."""
        able = sorted((row for row in self._instances.values() if row.discoverable), key=lambda row: row.instance)
        turn = next(self._turns) % len(able) if able else 0
        return able[turn:] + able[:turn]
