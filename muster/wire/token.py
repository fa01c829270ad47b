"""Tokens: what a client has seen of each partition's log, and which log that was. On the wire: `0:1234@9f3a01bc,3:17@52c07e4d`.

Behind a position stands the mark of the term that reigned there. Only logs with one history have the same term at a position,
so another log is told apart: one that was lost, or restored from a backup, and then written on. Where a mark is missing (in
tokens of before there were any, or where a controller does not know it yet), the position alone counts. A partition without
history is not in a token.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from muster.wire.error import InvalidCommand

Positions = dict[int, int]
"""Positions by partition."""


class TokenPlace(NamedTuple):
    """A position in a partition's log, and the mark of the term there (8 hex digits; empty: not known)."""

    position: int
    term: str = ""

    def __str__(self) -> str:
        return f"{self.position}@{self.term}" if self.term else str(self.position)


Token = dict[int, TokenPlace]
"""What was seen of each partition."""

_PLACE: Final = "[0-9]{1,18}:[0-9]{1,18}(@[0-9a-f]{8})?"
_TOKEN: Final = re.compile(f"{_PLACE}(,{_PLACE})*")


def format_token(token: Token) -> str:
    """`{0: TokenPlace(1234, "9f3a01bc"), 3: TokenPlace(17)}` as `0:1234@9f3a01bc,3:17`."""
    # Sorted, so that the same token is always the same text.
    return ",".join(f"{partition}:{place}" for partition, place in sorted(token.items()))


def format_positions(positions: Positions) -> str:
    """Positions as a token without marks."""
    return format_token({partition: TokenPlace(position) for partition, position in positions.items()})


def parse_token(text: str) -> Token:
    """The token of `0:1234@9f3a01bc,3:17`. Raises InvalidCommand."""
    # The token of a client that has seen nothing is an empty text.
    if not text:
        return {}
    # Python's `int` takes signs, underscores and the digits of all scripts, and as many as there are.
    if not is_token(text):
        raise InvalidCommand(f"{text[:200]!r} is no token; it looks like 0:1234@9f3a01bc,3:17", field="token")
    token: Token = {}
    for part in text.split(","):
        partition, _, place = part.partition(":")
        position, _, term = place.partition("@")
        token[int(partition)] = TokenPlace(int(position), term)
    return token


def is_token(text: str) -> bool:
    """Whether the text has the form of a token that has seen something."""
    return _TOKEN.fullmatch(text) is not None


def positions_of(token: Token) -> Positions:
    """The token's positions."""
    return {partition: place.position for partition, place in token.items()}


def merged(one: Token, other: Token) -> Token:
    """The token that is as new as both; at the same position the place that has a mark, or else the other one's."""
    newest = dict(one)
    for partition, place in other.items():
        known = newest.get(partition)
        if known is None or (place.position, bool(place.term)) >= (known.position, bool(known.term)):
            newest[partition] = place
    return newest


def without(token: Token, partitions: Iterable[int]) -> Token:
    """The token as of one who has seen nothing of these partitions."""
    left_out = set(partitions)
    return {partition: place for partition, place in token.items() if partition not in left_out}
