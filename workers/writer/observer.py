"""What works while a writer reigns, and only then: health checks, the commands topic, sagas."""

from collections.abc import Sequence
from typing import Any, Protocol

ChangedItem = tuple[str, str, Any]
"""A stream, an item of it, and the item's part now (None: it is gone); see `workers.machine.aggregate`."""


class ReignObserver(Protocol):
    """Works while its writer reigns. The calls come on the event loop, in order, and must not block."""

    def began(self, streams: dict[str, Any]) -> None:
        """A reign has begun; `streams` holds the states that it begins with."""

    def changed(self, items: Sequence[ChangedItem]) -> None:
        """A batch that the log has acknowledged changed these items."""

    def ended(self) -> None:
        """The reign is over."""
