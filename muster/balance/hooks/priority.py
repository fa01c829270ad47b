"""How important one call is, as its caller says beside it: a header over HTTP, metadata over gRPC."""

from typing import Final

from muster.balance.limit import SHARES, Priority
from muster.wire.error import InvalidCommand

PRIORITY_HEADER: Final = "Muster-Priority"
"""The header of one request that says how important it is, in place of the hook's own priority."""

PRIORITY_KEY: Final = PRIORITY_HEADER.lower()
"""The same as a key of gRPC's metadata, which have no capitals."""


def priority_named(text: object, where: str) -> Priority:
    """The priority of this name, found at `where`. Raises ValueError where there is none such."""
    if text not in SHARES:
        raise ValueError(f"{where}: {text!r} is none of {', '.join(SHARES)}")
    return text


def usual(priority: Priority) -> Priority:
    """The priority that a hook is given for its calls. Raises InvalidCommand now, and not with the first call."""
    if priority not in SHARES:
        raise InvalidCommand(f"priority: must be one of {', '.join(SHARES)}", field="priority")
    return priority
