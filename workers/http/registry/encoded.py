"""Instances as JSON, encoded once per change however often they are asked for.

A service is encoded when it is first asked for; a change forgets the bytes of that one instance and the joined answers of
that service. The services asked for least recently are forgotten when the cache is full.
"""

from collections.abc import Sequence
from typing import Final

import orjson

from domain.registry.instance import Instance
from infra.log.port import Cursor
from projections.registry.instances import item
from workers.http.exchange import JSON_OPTIONS, NO_ITEMS, Items
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
        self._discovered: dict[str, Items] = {}

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
            self.bytes -= _own_size(self._discovered.pop(instance.service, NO_ITEMS))

    def one(self, instance: Instance) -> bytes:
        """The instance, encoded: from the cache when it is still as it was, for who took it from the views a while ago."""
        service = instance.service
        if self._views.instances.get(service, {}).get(instance.id) is not instance:
            return encode(instance)
        known = self._items.get(service)
        if known is None:
            known = self._known(service)
        found = known.get(instance.id)
        if found is None:
            found = self._encode(known, instance)
            self._shrink(service)
        return found

    def discoverable(self, service: str) -> Items:
        """Those that can take traffic. Raises ServiceNotFound or NoHealthyInstances."""
        found = self._discovered.get(service)
        if found is not None:
            return found
        # This raises before the cache is touched: names of services that do not exist leave nothing in it.
        instances = self._views.registry.discover(service)
        known = self._known(service)
        found = Items.of(known.get(instance.id) or self._encode(known, instance) for instance in instances)
        self._discovered[service] = found
        self.bytes += _own_size(found)
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
            self.bytes -= sum(map(len, gone.values())) + _own_size(self._discovered.pop(oldest, NO_ITEMS))


def _own_size(items: Items) -> int:
    """What the items take beside those of the cache: one group was joined, several hold but the cache's own bytes."""
    return items.size if len(items.groups) == 1 else 0
