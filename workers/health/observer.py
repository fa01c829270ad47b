"""Lets the checker work for just those instances whose partition is written here."""

from collections.abc import Sequence
from typing import Any, Final

from domain.registry.instance import Instance
from domain.registry.service import Service
from muster.wire.check import TtlCheck
from muster.wire.stream import SERVICE, kind_of
from workers.health.checker import Checker
from workers.writer.writer import ChangedItem

_TTL: Final = frozenset((TtlCheck,))


class ReignChecks:
    """One writer's `ReignObserver`: tells the checker what to check while the reign lasts."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._checked: set[tuple[str, str]] = set()

    def began(self, streams: dict[str, Any]) -> None:
        """Check all that is registered."""
        for stream, service in streams.items():
            if isinstance(service, Service):
                for instance_id, instance in service.instances.items():
                    self._sync(stream, instance_id, instance)

    def changed(self, items: Sequence[ChangedItem]) -> None:
        """Check the instances as they are now, or no more."""
        for stream, item, part in items:
            if kind_of(stream) == SERVICE:
                self._sync(stream, item, part)

    def _sync(self, stream: str, instance_id: str, instance: Instance | None) -> None:
        """Most have nothing to be asked, and cost no more than this look."""
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
