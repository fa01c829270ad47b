"""What the shards of a data node have to do: reads and writes, counted as they are answered, and the bytes that each holds."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from muster.wire.shards.driver import ShardId
from muster.wire.telemetry.shard_loads import ShardLoadReport

window_seconds: Final = 30.0
"""Rates are means over about so long; since the start, while that is less."""

look_seconds: Final = 1.0
"""Looks that come sooner after another one are no beginning of a window."""


class _Look(NamedTuple):
    """The counts at an instant."""

    at: float
    reads: Mapping[ShardId, int]
    writes: Mapping[ShardId, int]


class ShardTraffic:
    """Counts, in the event loop that serves. `reads` and `writes` are for who answers: add one for each that was answered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.reads: defaultdict[ShardId, int] = defaultdict(int)
        self.writes: defaultdict[ShardId, int] = defaultdict(int)
        self._clock = clock
        self._bytes: Mapping[ShardId, int] = {}
        self._since: dict[ShardId, float] = {}
        self._looks: deque[_Look] = deque([_Look(clock(), {}, {})])
        self._now = self._looks[0]

    def look(self, sizes: Mapping[ShardId, int]) -> None:
        """These shards serve here now, with so many bytes. Their rates, up to this instant, are told until the next look."""
        # It came at some time since the look before, and has been counted from then on.
        self._since = {shard: self._since.get(shard, self._now.at) for shard in sizes}
        self._bytes = sizes
        for counts in (self.reads, self.writes):
            for shard in counts.keys() - sizes.keys():
                # A shard that comes back later begins anew: it was not asked for meanwhile.
                del counts[shard]
        self._now = _Look(self._clock(), dict(self.reads), dict(self.writes))
        # The newest of those that are old enough is where the window begins.
        while len(self._looks) > 1 and self._now.at - self._looks[1].at >= window_seconds:
            self._looks.popleft()
        if self._now.at - self._looks[-1].at >= look_seconds:
            self._looks.append(self._now)

    def load(self, shard: ShardId) -> ShardLoadReport:
        """What the shard had to do over the window that ended with the last look."""
        began = self._looks[0]
        # One that came within the window is told as it is asked here, and not as if it had stood idle before.
        seconds = max(self._now.at - max(began.at, self._since.get(shard, began.at)), look_seconds)

        def rate(now: Mapping[ShardId, int], then: Mapping[ShardId, int]) -> float:
            # More than now: it has begun anew since then.
            more = now.get(shard, 0) - then.get(shard, 0)
            return round(max(more, 0) / seconds, 3)

        return ShardLoadReport(
            rate(self._now.reads, began.reads), rate(self._now.writes, began.writes), self._bytes.get(shard)
        )
