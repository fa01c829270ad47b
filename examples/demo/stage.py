"""What every step of the demonstration works with, and how it says what it found."""

from collections.abc import Sequence
from dataclasses import dataclass

from examples.demo.claims import Claims
from examples.demo.cluster import Cluster
from examples.demo.compare import Key
from examples.demo.screen import Screen
from examples.demo.watcher import Watcher
from muster import Client, Event, Instance


@dataclass(frozen=True, slots=True)
class Stage:
    """The processes, a client, the watcher, and where findings go."""

    cluster: Cluster
    client: Client
    watcher: Watcher
    screen: Screen
    claims: Claims

    def instance(self, name: str) -> Instance:
        """The instance as the watcher knows it."""
        return next(row for row in self.watcher.instances.values() if row.instance == name)

    async def listed(self, *services: str) -> dict[Key, Instance]:
        """The services' instances as the controller lists them, proven to be the newest."""
        pages = [await self.client.instances(service, consistency="strong") for service in services]
        return {(row.service, row.instance): row for page in pages for row in page.items}


async def all_events(client: Client) -> list[Event]:
    """All events of all partitions, oldest first in each."""
    found: list[Event] = []
    for partition in [entry["partition"] for entry in (await client.status())["partitions"]]:
        after = -1
        while True:
            page = await client.events(partition=partition, after=after, limit=1000)
            found += page.items
            if page.next_after == after or not page.items:
                break
            after = page.next_after
    return found


def milliseconds(seconds: float) -> str:
    """Seconds as text: `12 ms`, `3.4 ms`, `1.25 s`."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def some(found: Sequence[str]) -> str:
    """The first few findings."""
    return "" if not found else f" ({len(found)}: {'; '.join(found[:3])})"
