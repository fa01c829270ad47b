"""Durations as callers give them, refused where no clock would ever reach them."""

import math

from muster.wire.error import InvalidCommand


def seconds_from(given: object, field: str, least: float = 0.001) -> float:
    """The seconds that were given, `least` or more. Raises InvalidCommand, with the field, for anything else.

    What is compared with NaN never comes, so a call would wait for ever; nor does a text, or True, say how long.
    """
    if isinstance(given, bool) or not isinstance(given, int | float) or not least <= given < math.inf:
        raise InvalidCommand(f"{field}: must be a number of seconds, {least:g} or more", field=field)
    return given
