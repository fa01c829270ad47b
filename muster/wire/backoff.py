"""Pauses between tries. Pure: the caller gives the random share, from a generator or from an id."""


def pause_seconds(tries: int, first_seconds: float, most_seconds: float, share: float = 1.0) -> float:
    """The pause before the next try, `tries` after the first one (0: the first one has failed): it doubles from try to try, up to
    `most_seconds`, and is between half of that and all of it.

    `share`, from 0 (half) to 1 (all), spreads the pauses: clients that failed together must not come back together.
    """
    # At most 20 doublings: a caller that tries for days must not come to a power that no float can hold.
    whole = min(most_seconds, first_seconds * 2.0 ** min(tries, 20))
    return whole * (0.5 + share / 2)
