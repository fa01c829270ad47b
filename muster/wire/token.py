"""Tokens: positions by partition, what a client holds to be consistent. On the wire: `0:1234,3:17`."""

from muster.wire.error import InvalidCommand

Token = dict[int, int]


def format_token(token: Token) -> str:
    """`{0: 1234, 3: 17}` as `0:1234,3:17`."""
    # Sorted, so that the same positions are always the same text.
    return ",".join(f"{partition}:{position}" for partition, position in sorted(token.items()))


def parse_token(text: str) -> Token:
    """The token of `0:1234,3:17`. Raises InvalidCommand."""
    try:
        # Empty parts are passed over: the token of a client that has seen nothing is an empty text.
        pairs = (pair.split(":") for pair in text.split(",") if pair.strip())
        return {int(partition): int(position) for partition, position in pairs}
    except ValueError:
        raise InvalidCommand(f"{text!r} is no token; it looks like 0:1234,3:17", field="token") from None
