"""The watcher of the demonstration: follows all services and notes when each change came."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from examples.demo.cluster import NotInTime
from examples.demo.compare import Key
from muster import Appeared, Change, Changed, Client, Instance, Removed, Snapshot

T = TypeVar("T")


C = TypeVar("C", bound=Change)


@dataclass(frozen=True, slots=True)
class Seen(Generic[C]):
    """A change, and when it arrived: on the monotonic clock, and in UTC."""

    change: C
    at: float
    utc: datetime


class Watcher:
    """What a watch of everything has reported: all changes, and the instances as they are now."""

    def __init__(self, told: Callable[[Change], None] = lambda change: None) -> None:
        self.seen: list[Seen[Change]] = []
        self.instances: dict[Key, Instance] = {}
        self._told = told
        self._news = asyncio.Condition()

    async def follow(self, client: Client) -> None:
        """Watch, for ever; over restarts of the controller."""
        async with aclosing(client.watch()) as changes:
            async for change in changes:
                async with self._news:
                    self.seen.append(Seen(change, time.monotonic(), datetime.now(UTC)))
                    self._take(change)
                    self._news.notify_all()
                self._told(change)

    def _take(self, change: Change) -> None:
        match change:
            case Snapshot(instances=instances):
                self.instances = {(row.service, row.instance): row for row in instances}
            case Appeared(instance=row) | Changed(instance=row):
                self.instances[row.service, row.instance] = row
            case Removed(instance=row):
                self.instances.pop((row.service, row.instance), None)

    @property
    def changes(self) -> list[Change]:
        """All changes so far, in order."""
        return [seen.change for seen in self.seen]

    async def until(self, found: Callable[[], T | None], what: str, seconds: float = 10.0) -> T:
        """What `found` gives, once it gives something; it is asked at every change. Raises NotInTime."""
        try:
            async with asyncio.timeout(seconds), self._news:
                while not (result := found()):
                    await self._news.wait()
                return result
        except TimeoutError:
            raise NotInTime(f"the watcher did not hear within {seconds:g} s that {what}") from None

    async def flip(self, instance: str, health: str, after: int, seconds: float = 10.0) -> Seen[Changed]:
        """The first change behind the number `after` with which the instance became so."""

        def found() -> Seen[Changed] | None:
            for seen in self.seen[after:]:
                match seen.change:
                    case Changed(instance=now, before=before) as change:
                        if now.instance == instance and now.health == health != before.health:
                            return Seen(change, seen.at, seen.utc)
            return None

        return await self.until(found, f"{instance} is {health}", seconds)
