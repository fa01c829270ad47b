"""Which of the instances that can take a call takes it. Pure: the clock and all chance are arguments.

least_cost              two at random, the cheaper one. With a zone: two near ones, unless one from anywhere is clearly cheaper
round_robin             one after the other
weighted_round_robin    one after the other, each as often as its weight says, and as evenly as can be
random                  at random, each as often as its weight says
least_connections       of all, the one with the fewest calls under way for its weight; those that are equal take turns

Each of them costs the same for ten instances and for a thousand.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence, Set
from functools import cached_property
from heapq import heapify, heapreplace
from math import gcd
from typing import Final

from muster.balance.load import InstanceLoad, cost
from muster.wire.registry.traffic import Policy

cycle_entries_max: Final = 4_096
ZONE_BIAS: Final = 2.0
"""A far instance takes a call when it is so many times cheaper than the near ones."""
NOBODY: Final[frozenset[int]] = frozenset()


class Fewest:
    """The places by calls under way for their weight, the fewest first; equal ones take turns.

    Equal ones stand in one row, each behind those that came there before it. Where a call has ended, it has to be told so. Where
    one has begun, it finds that out when the place comes to the front: till then it stands too far ahead, and in nobody's way.
    """

    def __init__(self, loads: Sequence[InstanceLoad]) -> None:
        self._loads = loads
        self._rows: dict[float, OrderedDict[int, None]] = {}
        # The rows that there are, the fewest calls first; and which of them each place stands in.
        self._order: list[float] = []
        self._row_of = [0.0] * len(loads)

    def ended(self, place: int) -> None:
        """A call has ended there."""
        # Not yet asked for an order: then there is none to keep.
        if self._rows:
            self._move(place)

    def first(self, turn: int, avoid: Set[int]) -> int:
        """The first of those not to be avoided, of which there is one; `turn` says who begins when all are equal."""
        if not self._rows:
            self._begin(turn)
        while True:
            place = next(iter(self._rows[self._order[0]]))
            if place in avoid:
                place = next(place for row in self._order for place in self._rows[row] if place not in avoid)
            load = self._loads[place]
            if (load.in_flight + 1) / load.weight == self._row_of[place]:
                return place
            self._move(place)

    def _begin(self, turn: int) -> None:
        count = len(self._loads)
        for step in range(count):
            self._stand((turn + step) % count)

    def _move(self, place: int) -> None:
        """To where it belongs by now."""
        before = self._row_of[place]
        row = self._rows[before]
        del row[place]
        self._stand(place)
        if not row:
            del self._rows[before]
            del self._order[bisect_left(self._order, before)]

    def _stand(self, place: int) -> None:
        """Behind those that are equal to it."""
        load = self._loads[place]
        which = self._row_of[place] = (load.in_flight + 1) / load.weight
        row = self._rows.get(which)
        if row is None:
            row = self._rows[which] = OrderedDict()
            insort(self._order, which)
        row[place] = None


class Able:
    """The instances that can take a call: `all` are their places, `near` those in the caller's zone, or all if none is."""

    def __init__(self, loads: tuple[InstanceLoad, ...], near: Sequence[int] = ()) -> None:
        self.loads = loads
        self.all = tuple(range(len(loads)))
        self.near = near or self.all
        self.some_are_far = len(self.near) < len(loads)

    @cached_property
    def weighted(self) -> tuple[int, ...]:
        """Their cycle by weight: made when a policy first asks for it, once for each list."""
        return cycle([load.weight for load in self.loads])

    @cached_property
    def fewest(self) -> Fewest:
        """Their order by calls under way."""
        return Fewest(self.loads)


def cycle(weights: Sequence[int]) -> tuple[int, ...]:
    """The places of the weights in an order that gives each as many turns as its weight, spread evenly; the shortest such.

    Weights are 1 or more. Beyond 4,096 turns the proportions are rounded, and everyone has a turn.
    """
    turns = _turns(weights)
    # Each turn has a deadline, as if one came every 1/turns: the earliest is next, of equal ones the first in the list.
    # Python divides whole numbers correctly rounded, so equal deadlines are equal floats.
    due = [(1 / count, place, 1) for place, count in enumerate(turns)]
    heapify(due)
    order: list[int] = []
    for _ in range(sum(turns)):
        _, place, nth = due[0]
        order.append(place)
        heapreplace(due, ((nth + 1) / turns[place], place, nth + 1))
    return tuple(order)


def _turns(weights: Sequence[int]) -> list[int]:
    divisor = gcd(*weights)
    turns = [weight // divisor for weight in weights]
    whole, most = sum(turns), max(cycle_entries_max, len(turns))
    if whole <= most:
        return turns
    # One turn for each, and of the others as many as its share, rounded down.
    spare = most - len(turns)
    return [1 + spare * count // whole for count in turns]


def choose(
    policy: Policy,
    able: Able,
    turn: int,
    chance: float,
    now: float,
    unknown_seconds: float,
    slow_start_seconds: float = 0.0,
    avoid: Set[int] = NOBODY,
) -> int:
    """The place of the one that takes the call, none of those to avoid; -1 if there is none.

    All its chance is whose `turn` it is and `chance`, a number from 0 to less than 1. `unknown_seconds` stand for a latency of
    which nothing is known; for `slow_start_seconds` a newcomer gets less than its share.
    """
    if len(able.loads) <= len(avoid):
        return -1
    match policy:
        case "least_cost":
            return _least_cost(able, chance, now, unknown_seconds, slow_start_seconds, avoid)
        case "round_robin":
            return _next(able.all, turn, avoid)
        case "weighted_round_robin":
            return _next(able.weighted, turn, avoid)
        case "random":
            return _next(able.weighted, int(chance * len(able.weighted)), avoid)
        case "least_connections":
            return able.fewest.first(turn, avoid)


def _least_cost(able: Able, chance: float, now: float, unknown: float, slow: float, avoid: Set[int]) -> int:
    loads, places = able.loads, able.near
    count = len(places)
    others = count - 1 or 1
    # One number draws both, and what is left of it a far one: making numbers costs as much as comparing two instances.
    drawn = chance * count * others
    first, step = divmod(int(drawn), others)
    # The second is another one than the first, where there is one.
    second = (first + 1 + step) % count
    one, two = places[first], places[second]
    if avoid:
        one, two = _next(places, first, avoid), _next(places, second, avoid)
        if one < 0:
            # All near ones are to be avoided.
            return _next(able.all, int(drawn % 1.0 * len(loads)), avoid)
    one_cost, two_cost = cost(loads[one], now, unknown, slow), cost(loads[two], now, unknown, slow)
    if two_cost < one_cost:
        one, one_cost = two, two_cost
    # Not "near only": a zone with many callers and few instances would drown while others idle.
    if able.some_are_far:
        far = _next(able.all, int(drawn % 1.0 * len(loads)), avoid)
        if cost(loads[far], now, unknown, slow) * ZONE_BIAS < one_cost:
            return far
    return one


def _next(order: Sequence[int], turn: int, avoid: Set[int]) -> int:
    """Whose turn it is, or the next one behind it that is not to be avoided; -1 if there is none in this order."""
    count = len(order)
    place = order[turn % count]
    if place not in avoid:
        return place
    behind = (order[(turn + step) % count] for step in range(1, count))
    return next((place for place in behind if place not in avoid), -1)
