"""Pauses between tries. Pure: chance is given as a share, by whoever has dice or an id to take it from."""


def pause_seconds(tries: int, first_seconds: float, most_seconds: float, share: float = 1.0) -> float:
    """The pause after so many tries (0: the first one failed): doubling from the first to the most, and half to all of that.

    `share`, from 0 to 1, says where between half and all: clients that failed together must not come back together.
    """
    whole = min(most_seconds, first_seconds * 2.0 ** min(tries, 20))
    return whole * (0.5 + share / 2)
