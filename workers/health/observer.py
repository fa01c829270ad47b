"""Lets the checker run the checks of exactly those instances whose partition is written here."""

from collections.abc import Sequence
from typing import Any, Final

from domain.registry.instance import Instance
from domain.registry.service import Service
from muster.wire.registry.check import TtlCheck
from muster.wire.stream import SERVICE, kind_of
from workers.health.checker import Checker
from workers.writer.observer import ChangedItem

_TTL: Final = frozenset((TtlCheck,))


class HealthObserver:
    """A `ReignObserver` of one writer: keeps the checker informed of what to check, while the reign lasts."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._checked: set[tuple[str, str]] = set()

    def began(self, streams: dict[str, Any]) -> None:
        """Check every registered instance of the partition."""
        for stream, service in streams.items():
            if isinstance(service, Service):
                for instance_id, instance in service.instances.items():
                    self._sync(stream, instance_id, instance)

    def changed(self, items: Sequence[ChangedItem]) -> None:
        """Check the changed instances as they are now; those that are gone no more."""
        for stream, item, part in items:
            if kind_of(stream) == SERVICE:
                self._sync(stream, item, part)

    def _sync(self, stream: str, instance_id: str, instance: Instance | None) -> None:
        """Pass the instance on to the checker if it has checks that run there, or had some. Most instances have none."""
        asked = None if instance is None or _TTL.issuperset(map(type, instance.spec.checks)) else instance
        subject = stream, instance_id
        if asked is not None:
            self._checked.add(subject)
        elif subject in self._checked:
            self._checked.remove(subject)
        else:
            return
        self._checker.sync(stream, instance_id, asked)

    def ended(self) -> None:
        """Check nothing of this partition."""
        for stream, instance_id in self._checked:
            self._checker.sync(stream, instance_id, None)
        self._checked.clear()
