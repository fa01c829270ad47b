"""The machine's own pace: on shared hardware neighbours slow it down by two, for seconds to minutes.

What is measured begins at the best pace that this run has seen, or after a minute of waiting for it.
"""

import time
from math import inf
from typing import Final

_LOOP: Final = 200_000
_LOOKS: Final = 3
_LEARN_SECONDS: Final = 20.0
_PATIENCE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.5
_SLOWER: Final = 1.2


def loop_ns() -> float:
    """How long this machine takes for the plainest Python, at this moment; 20 to 40 where nothing else runs."""
    return min(_look() for _ in range(_LOOKS))


def _look() -> float:
    began, total = time.perf_counter(), 0
    for number in range(_LOOP):
        total += number
    return (time.perf_counter() - began) / _LOOP * 1e9


class Pace:
    """The best pace so far; nothing is waited for before it was learned."""

    def __init__(self) -> None:
        self.best_ns = inf
        self.waited_seconds = 0.0

    def learn(self) -> None:
        """Look for a while how quick the machine can be."""
        end = time.monotonic() + _LEARN_SECONDS
        while time.monotonic() < end:
            self.best_ns = min(self.best_ns, loop_ns())
            time.sleep(_PAUSE_SECONDS)

    def wait(self) -> None:
        """Until the machine is as quick again, give or take a fifth, or patience ends."""
        began = time.monotonic()
        while (now_ns := loop_ns()) > self.best_ns * _SLOWER and time.monotonic() - began < _PATIENCE_SECONDS:
            time.sleep(_PAUSE_SECONDS)
        if self.best_ns < inf:
            self.best_ns = min(self.best_ns, now_ns)
            self.waited_seconds += time.monotonic() - began


PACE: Final = Pace()
