"""Tokens: positions by partition, what a client holds to be consistent. On the wire: `0:1234,3:17`."""

import re
from typing import Final

from muster.wire.error import InvalidCommand

Token = dict[int, int]

_PAIR: Final = "[0-9]{1,18}:[0-9]{1,18}"
_TOKEN: Final = re.compile(f"{_PAIR}(,{_PAIR})*")


def format_token(token: Token) -> str:
    """`{0: 1234, 3: 17}` as `0:1234,3:17`."""
    # Sorted, so that the same positions are always the same text.
    return ",".join(f"{partition}:{position}" for partition, position in sorted(token.items()))


def parse_token(text: str) -> Token:
    """The token of `0:1234,3:17`. Raises InvalidCommand."""
    # The token of a client that has seen nothing is an empty text.
    if not text:
        return {}
    # Python's `int` takes signs, underscores and the digits of all scripts, and as many as there are.
    if not _TOKEN.fullmatch(text):
        raise InvalidCommand(f"{text[:200]!r} is no token; it looks like 0:1234,3:17", field="token")
    pairs = (pair.split(":") for pair in text.split(","))
    return {int(partition): int(position) for partition, position in pairs}
