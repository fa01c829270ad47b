"""Instances as JSON, encoded once per change however often they are asked for.

A service is encoded when it is first asked for; a change forgets the bytes of that one instance and the joined answers of
that service. The services asked for least recently are forgotten when the cache is full.
"""

from collections.abc import Sequence
from typing import Final

import orjson

from domain.registry.instance import Instance
from infra.log.port import Cursor
from projections.instances import item
from workers.http.exchange import JSON_OPTIONS
from workers.views.registry import Change
from workers.views.views import Views

cache_bytes_max: Final = 67_108_864


def encode(instance: Instance) -> bytes:
    """The instance as API users see it."""
    return orjson.dumps(item(instance), option=JSON_OPTIONS)


class Encoded:
    """The cache, kept true by the views' changes."""

    def __init__(self, views: Views, bytes_max: int = cache_bytes_max) -> None:
        self._views = views
        self._bytes_max = bytes_max
        self.bytes = 0
        self._items: dict[str, dict[str, bytes]] = {}
        self._discovered: dict[str, bytes] = {}

    def on_batch(self, partition: int, cursor: Cursor, changes: Sequence[Change]) -> None:
        """Forget what the changes made untrue. To be called by the views."""
        # Nothing is kept, so nothing can be untrue: a service with a joined answer has its items here too.
        if not self._items:
            return
        for change in changes:
            instance = change.after or change.before
            items = self._items.get(instance.service) if instance is not None else None
            if instance is None or items is None:
                continue
            self.bytes -= len(items.pop(instance.id, b""))
            if change.after is None and not items:
                del self._items[instance.service]
            self.bytes -= len(self._discovered.pop(instance.service, b""))

    def items(self, service: str) -> list[bytes]:
        """All instances of the service, each encoded; none when there is no such service."""
        instances = self._views.instances.get(service)
        if instances is None:
            return []
        known = self._known(service)
        found = [known.get(name) or self._encode(known, instance) for name, instance in instances.items()]
        self._shrink(service)
        return found

    def discoverable(self, service: str) -> bytes:
        """The JSON array of those that can take traffic. Raises ServiceNotFound or NoHealthyInstances."""
        found = self._discovered.get(service)
        if found is not None:
            return found
        # This raises before the cache is touched: names of services that do not exist leave nothing in it.
        instances = self._views.registry.discover(service)
        known = self._known(service)
        found = b"[%b]" % b",".join(known.get(instance.id) or self._encode(known, instance) for instance in instances)
        self._discovered[service] = found
        self.bytes += len(found)
        self._shrink(service)
        return found

    def _known(self, service: str) -> dict[str, bytes]:
        known = self._items.pop(service, None)
        if known is None:
            known = {}
        # Put back last: the first one is the one that was asked for least recently.
        self._items[service] = known
        return known

    def _encode(self, known: dict[str, bytes], instance: Instance) -> bytes:
        encoded = known[instance.id] = encode(instance)
        self.bytes += len(encoded)
        return encoded

    def _shrink(self, used: str) -> None:
        while self.bytes > self._bytes_max:
            oldest = next(iter(self._items))
            # A service that is over the limit all by itself stays: it was asked for just now.
            if oldest == used and len(self._items) == 1:
                return
            gone = self._items.pop(oldest)
            self.bytes -= sum(map(len, gone.values())) + len(self._discovered.pop(oldest, b""))
