"""What a client knows of one instance, and what a call there would cost it. Pure.

The cost is the latency that was seen there, times the calls that are under way, divided by the weight. Latency is a mean that
jumps up at once and comes down slowly (peak EWMA, as in Finagle), and it fades to nothing while nobody calls: an instance that
was slow is tried again. A failure counts as a long latency, or what fails quickly would look quick and draw all calls.
"""

from math import exp, inf
from typing import Final

NEVER: Final = -inf
FADES_SECONDS: Final = 10.0
"""After so long an old latency counts a third."""
LEAST_SECONDS: Final = 1e-6
"""What has faded still costs this, so that the calls under way decide between two of its kind."""
NEWCOMER_SHARE_MIN: Final = 0.1
MEAN_SHARE: Final = 0.02
FAILURE_MEANS: Final = 3.0


class InstanceLoad:
    """What is known of one instance; seconds are those of any one clock. `observed_at` is NEVER until an answer was seen."""

    __slots__ = ("came_at", "cost_seconds", "failures_in_row", "in_flight", "observed_at", "weight")

    def __init__(self, weight: int = 1, came_at: float = NEVER) -> None:
        self.weight = weight
        self.came_at = came_at
        self.in_flight = 0
        self.cost_seconds = 0.0
        self.observed_at = NEVER
        self.failures_in_row = 0


def cost(load: InstanceLoad, now: float, unknown_seconds: float, slow_start_seconds: float = 0.0) -> float:
    """What a call there would cost. `unknown_seconds` stand for a latency of which nothing is known."""
    seconds = unknown_seconds
    if load.observed_at != NEVER:
        seconds = load.cost_seconds * exp((load.observed_at - now) / FADES_SECONDS)
    weight: float = load.weight
    # One that has just come is cold: it begins with a part of its share.
    if slow_start_seconds and now - load.came_at < slow_start_seconds:
        weight *= max(NEWCOMER_SHARE_MIN, (now - load.came_at) / slow_start_seconds)
    return (seconds + LEAST_SECONDS) * (load.in_flight + 1) / weight


def observed(load: InstanceLoad, seconds: float, now: float) -> None:
    """A call has taken so long."""
    # Up at once, against the value that has not faded (as Finagle): a slow answer after a pause is no better than before it.
    if seconds >= load.cost_seconds:
        load.cost_seconds = seconds
    else:
        old = exp((load.observed_at - now) / FADES_SECONDS)
        load.cost_seconds = load.cost_seconds * old + seconds * (1.0 - old)
    load.observed_at = now


def observed_at_least(load: InstanceLoad, seconds: float, now: float) -> None:
    """A call was given up after so long: it would have taken longer. Says nothing where more is known."""
    if seconds > load.cost_seconds * exp((load.observed_at - now) / FADES_SECONDS):
        load.cost_seconds = seconds
        load.observed_at = now


def failure_seconds(seconds: float, least: float, mean: float) -> float:
    """What a failure after so many seconds counts as: never less than what is usual, also where calls take long."""
    return max(seconds, least, FAILURE_MEANS * mean)


def mean_after(mean: float, seconds: float) -> float:
    """The mean of all answers, as it is after one more; 0 means that there was none yet."""
    return mean + MEAN_SHARE * (seconds - mean) if mean else seconds
