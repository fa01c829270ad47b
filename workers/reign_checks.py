"""Lets the checker work for just those instances whose partition is written here."""

from domain.instance import Instance
from domain.service import Service
from workers.checker import Checker


class ReignChecks:
    """One writer's `ReignObserver`: tells the checker what to check while the reign lasts."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._checked: set[tuple[str, str]] = set()

    def began(self, streams: dict[str, Service]) -> None:
        """Check all that is registered."""
        for stream, service in streams.items():
            for instance_id, instance in service.instances.items():
                self.changed(stream, instance_id, instance)

    def changed(self, stream: str, instance_id: str, instance: Instance | None) -> None:
        """Check it as it is now, or no more."""
        self._checker.sync(stream, instance_id, instance)
        if instance is None:
            self._checked.discard((stream, instance_id))
        else:
            self._checked.add((stream, instance_id))

    def ended(self) -> None:
        """Check nothing of this partition."""
        for stream, instance_id in self._checked:
            self._checker.sync(stream, instance_id, None)
        self._checked.clear()
