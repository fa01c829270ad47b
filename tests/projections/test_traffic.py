"""The traffic of services as readers see it."""

from functools import reduce

from domain.registry.traffic import TrafficLimitSet, TrafficPolicySet
from muster.wire.registry.traffic import DEFAULTS, Traffic
from projections.registry.traffic import TRAFFIC
from tests.sample import NOON, recorded


def row(*events) -> Traffic:
    told = [recorded(event, place, place)._replace(stream="traffic/users") for place, event in enumerate(events)]
    assert {TRAFFIC.touched(one) for one in told} == {("users",)}
    return reduce(TRAFFIC.fold, told, None)


def test_a_row_tells_what_is_set_by_whom_and_why():
    assert row(TrafficPolicySet(policy="random"), TrafficLimitSet(limit=False, in_flight_max=None)) == Traffic(
        service="users", policy="random", limit=False, since=NOON, actor="ann", reason="because", version=2
    )


def test_a_row_stays_when_all_is_taken_back():
    found = row(TrafficPolicySet(policy="random"), TrafficPolicySet(policy=None))
    assert (found.given, found.version) == ({}, 2)
    assert found.in_force == DEFAULTS


def test_what_is_in_force_is_what_is_set_and_else_the_default():
    found = row(TrafficPolicySet(policy="random"), TrafficLimitSet(limit=False, in_flight_max=7)).in_force
    assert (found.policy, found.limit, found.in_flight_max) == ("random", False, 7)
    assert (found.retry_share, found.eject_after) == (DEFAULTS.retry_share, DEFAULTS.eject_after)
