"""How many calls a client may repeat: a share of those that succeed, so that retries do not make an outage worse. Pure."""

from typing import Final

retries_saved_max: Final = 10


class Budget:
    """Retries that are `left`; how many were `taken`, and how many `refused`."""

    __slots__ = ("left", "refused", "taken")

    def __init__(self) -> None:
        # Some from the beginning, so that a client that calls rarely may retry too.
        self.left = float(retries_saved_max)
        self.taken = 0
        self.refused = 0

    def earn(self, share: float) -> None:
        """A call has succeeded."""
        if self.left < retries_saved_max:
            self.left = min(float(retries_saved_max), self.left + share)

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
