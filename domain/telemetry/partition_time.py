"""The time of a partition: what passes between its records, by the instants at which Kafka recorded them.

No clock is asked. A record that was read late is as old as its instant says, so that who reads a backlog takes nobody for silent
who was not, and nobody for alive who is silent. Where no record stood for a while, time stood still for all: the broker was
away, or nobody ticked. Then nobody could be heard either.
"""

from typing import Final

hole_seconds_max: Final = 1.5
"""The longest pause between two records that counts. Ticks come every 0.1 s; a longer one is a hole, and moves every deadline."""


class PartitionTime:
    """Counts the seconds of a partition, from its first record that was read. `recorded_ms` is the newest instant (-1: none)."""

    __slots__ = ("_elapsed_ms", "recorded_ms")

    def __init__(self) -> None:
        # Whole milliseconds: a sum of tenths of seconds would drift.
        self._elapsed_ms = 0
        self.recorded_ms = -1

    def advance(self, recorded_ms: int) -> float:
        """A record of this instant (milliseconds since 1970) was read. The seconds that have passed so far."""
        before = self.recorded_ms
        if recorded_ms > before:
            self.recorded_ms = recorded_ms
            passed = recorded_ms - before
            # The first record begins the time. Instants that run backwards, as when another broker leads, let none pass.
            if before >= 0 and passed <= hole_seconds_max * 1000:
                self._elapsed_ms += passed
        return self.elapsed

    @property
    def elapsed(self) -> float:
        """The seconds that have passed so far."""
        return self._elapsed_ms / 1000
