"""What an HTTP call says of the instance that it went to, and whether it may be repeated."""

from collections.abc import Mapping
from typing import Final, get_args

from muster.balance.limit import Priority

PRIORITY_HEADER: Final = "Muster-Priority"
"""A header of one request that says how important it is, in place of the hook's own priority."""

OVERLOADED: Final = frozenset((429, 503))
"""The statuses by which an instance says that it has too much to do."""

REPEATABLE: Final = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))
"""The methods that do no more when they are done twice (RFC 9110, 9.2.2)."""

_PRIORITIES: Final[Mapping[str, Priority]] = {name: name for name in get_args(Priority)}


def priority_of(headers: Mapping[str, str], usual: Priority) -> Priority:
    """How important the request is. Raises ValueError for a header that names no priority."""
    text = headers.get(PRIORITY_HEADER)
    if text is None:
        return usual
    if text not in _PRIORITIES:
        raise ValueError(f"{PRIORITY_HEADER}: {text!r} is none of {', '.join(_PRIORITIES)}")
    return _PRIORITIES[text]
