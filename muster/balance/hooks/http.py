"""What an HTTP call says of the instance that it went to, and whether it may be repeated."""

from collections.abc import Mapping
from typing import Final

from muster.balance.hooks.priority import PRIORITY_HEADER, priority_named
from muster.balance.limit import Priority

OVERLOADED: Final = frozenset((429, 503))
"""The statuses by which an instance says that it has too much to do."""

REPEATABLE: Final = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))
"""The methods that do no more when they are done twice (RFC 9110, 9.2.2)."""


def priority_of(headers: Mapping[str, str], usual: Priority) -> Priority:
    """How important the request is. Raises ValueError for a header that names no priority."""
    text = headers.get(PRIORITY_HEADER)
    return usual if text is None else priority_named(text, PRIORITY_HEADER)
