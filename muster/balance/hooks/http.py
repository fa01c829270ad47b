"""What an HTTP call says of the instance that it went to, and whether it may be repeated."""

from collections.abc import Collection, Mapping
from typing import Final

from muster.balance.hooks.priority import PRIORITY_HEADER, priority_named
from muster.balance.limit import Priority
from muster.balance.picker import CallOutcome

OVERLOADED: Final = frozenset((429, 503))
"""The statuses by which an instance says that it has too much to do."""

REPEATABLE: Final = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))
"""The methods that do no more when they are done twice (RFC 9110, 9.2.2)."""


def priority_of(headers: Mapping[str, str], usual: Priority) -> Priority:
    """How important the request is. Raises ValueError for a header that names no priority."""
    text = headers.get(PRIORITY_HEADER)
    return usual if text is None else priority_named(text, PRIORITY_HEADER)


def outcome_of(status: int, overloaded: Collection[int]) -> CallOutcome:
    """What an answer of this status says of the instance; `overloaded` are those that say that it has too much to do."""
    return "overloaded" if status in overloaded else "failed" if status >= 500 else "ok"
