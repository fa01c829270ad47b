"""Lets the checker work for just those instances whose partition is written here."""

from typing import Any

from domain.check import TtlCheck
from domain.service import Service
from workers.checker import Checker


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
                    self.changed(stream, instance_id, instance)

    def changed(self, stream: str, item: str, part: Any) -> None:
        """Check the instance as it is now, or no more. Most have nothing to be asked, and cost no more than this look."""
        if not stream.startswith("service/"):
            return
        asked = part if part is not None and any(type(check) is not TtlCheck for check in part.spec.checks) else None
        subject = stream, item
        if asked is not None:
            self._checked.add(subject)
        elif subject in self._checked:
            self._checked.remove(subject)
        else:
            return
        self._checker.sync(stream, item, asked)

    def ended(self) -> None:
        """Check nothing of this partition."""
        for stream, instance_id in self._checked:
            self._checker.sync(stream, instance_id, None)
        self._checked.clear()
