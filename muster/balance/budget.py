"""How many calls a client may repeat: a share of those that succeed, so that retries do not make an outage worse. Pure.

Saved up are as many as calls are under way, since an instance that is killed takes with it what it had; and at least ten, so
that a client that calls rarely may retry too. What has reached nobody costs nothing: made at another instance it is nobody's
second call (gRPC's transparent retries, A6).
"""

from typing import Final

retries_saved_min: Final = 10


class Budget:
    """Retries that are `left`; how many were `taken`, and how many `refused`."""

    __slots__ = ("left", "refused", "taken")

    def __init__(self) -> None:
        self.left = float(retries_saved_min)
        self.taken = 0
        self.refused = 0

    def earn(self, share: float, under_way: int) -> None:
        """A call has succeeded, of so many under way."""
        # Also down: what a busy hour has saved must not meet an outage in a calm one.
        # By hand: to call `min` and `max` takes three times as long, with every answer.
        saved_max = under_way if under_way > retries_saved_min else retries_saved_min
        self.left += share
        if self.left > saved_max:
            self.left = saved_max

    def allows(self) -> bool:
        """Whether one retry may be made; one that may not counts as refused."""
        if self.left < 1.0:
            self.refused += 1
            return False
        return True

    def take(self) -> bool:
        """Whether one retry may be made; it is taken then."""
        if not self.allows():
            return False
        self.left -= 1.0
        self.taken += 1
        return True

    def went_elsewhere(self) -> None:
        """A call that had reached nobody was made at another instance."""
        self.taken += 1
