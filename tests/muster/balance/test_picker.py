"""One client's decisions: what is refused, what an outcome teaches, and that settings hold at once."""

from collections import Counter
from random import Random
from typing import get_args

import pytest

from benchmarks.balance.picker import FEW, MANY, microseconds
from muster import NoAvailableInstances, Priority, ResourceExhausted
from muster.balance.fleet import Candidate, Fleet
from muster.balance.picker import CallOutcome, Picker
from muster.wire.registry.traffic import Policy, TrafficSettings
from tests.muster.balance.instances import appeared, instance, snapshot

READINGS = 10
US_MAX = 10.0
TIMES_MAX = 2.0


class Client:
    """A picker and its time; each call takes a tenth of a second."""

    def __init__(self, count: int = 5, **settings: object) -> None:
        fleet = Fleet("me")
        fleet.take(snapshot(*(instance(str(number)) for number in range(count))), 0.0)
        self.picker = Picker("users", fleet, TrafficSettings(**{"policy": "round_robin", **settings}))  # type: ignore[arg-type]
        self.now, self.turn = 0.0, -1

    def begin(self, priority: Priority = "normal", avoid: tuple[str, ...] = ()) -> Candidate:
        self.turn += 1
        return self.picker.pick(priority, avoid, self.turn, 0.1, self.now)

    def call(self, outcome: CallOutcome = "ok", seconds: float = 0.1, timed: bool = True) -> str:
        candidate = self.begin()
        self.now += seconds
        self.picker.record(candidate, outcome, seconds, self.now, timed=timed)
        self.picker.end(candidate)
        return candidate.instance.instance

    def cost(self, number: int) -> float:
        return [*self.picker.fleet][number].load.cost_seconds


def test_a_call_that_is_refused_has_not_begun() -> None:
    client = Client(in_flight_max=2)
    begun = [client.begin(), client.begin()]
    with pytest.raises(ResourceExhausted) as refused:
        client.begin("critical")
    assert refused.value.context == {"in_flight": 2, "limit": 2, "priority": "critical"}
    assert client.picker.shed == {"critical": 1}
    for candidate in begun:
        client.picker.end(candidate)
    assert client.picker.limit.in_flight == 0
    assert [each.load.in_flight for each in client.picker.fleet] == [0] * 5


def test_where_all_are_to_be_avoided_nobody_is_picked() -> None:
    client = Client(2)
    assert client.begin(avoid=("0",)).instance.instance == "1"
    with pytest.raises(NoAvailableInstances, match="but those that were tried") as refused:
        client.begin(avoid=("0", "1", "gone"))
    assert refused.value.context == {"service": "users", "registered": 2, "healthy": 2, "ejected": 0}


def test_a_failure_costs_a_second_and_more_where_calls_take_longer() -> None:
    client = Client(1, eject_after=0)
    client.call("failed")
    assert client.cost(0) == 1.0
    slow = Client(1, eject_after=0)
    for _ in range(200):
        slow.call("ok", 5.0)
    slow.call("failed")
    assert slow.cost(0) == pytest.approx(15.0)


def test_a_call_that_is_not_timed_says_nothing_by_its_length() -> None:
    client = Client(1)
    client.call("ok", 60.0, timed=False)
    client.call("cancelled", 60.0, timed=False)
    assert (client.cost(0), client.picker.mean_seconds) == (0.0, 0.0)
    # That it has failed says something.
    client.call("failed", timed=False)
    assert client.cost(0) == 1.0


def test_a_cancelled_call_is_a_lower_bound_and_no_failure() -> None:
    client = Client(1)
    client.call("cancelled", 2.0)
    assert client.cost(0) == 2.0
    client.call("cancelled", 0.1)
    assert client.cost(0) == 2.0
    assert client.picker.failures == 0
    assert client.picker.limit.answers == 0


def test_who_fails_in_a_row_is_left_out_and_a_success_ends_the_row() -> None:
    client = Client(5, eject_after=3, eject_seconds=5.0)

    def round_of(*failing: str) -> set[str]:
        called = set()
        for _ in range(5):
            candidate = client.begin()
            name = candidate.instance.instance
            client.picker.record(candidate, "failed" if name in failing else "ok", 0.001, client.now)
            client.picker.end(candidate)
            called.add(name)
        return called

    for failing in (("0",), ("0",), (), ("0",), ("0",)):
        assert "0" in round_of(*failing)
    round_of("0")
    assert round_of() == {"1", "2", "3", "4"}
    client.now += 5.0
    assert "0" in round_of()


@pytest.mark.parametrize("settings", [{"eject_after": 0}, {"eject_seconds": 0.0}])
def test_nobody_is_left_out_where_that_is_off(settings: dict[str, object]) -> None:
    client = Client(5, **settings)
    for _ in range(200):
        client.call("failed", 0.001)
    assert client.picker.fleet.counts(client.now) == (5, 5, 5, 0)


def test_overload_leaves_nobody_out() -> None:
    client = Client(5)
    for _ in range(200):
        client.call("overloaded", 0.001)
    assert client.picker.fleet.counts(client.now) == (5, 5, 5, 0)


def test_settings_hold_at_once_also_for_calls_under_way() -> None:
    client = Client(3, policy="least_connections")
    assert client.begin().instance.instance == "0"
    client.picker.set(TrafficSettings(policy="round_robin"))
    begun = [client.begin() for _ in range(2)]
    client.picker.set(TrafficSettings(policy="least_connections", in_flight_max=5))
    # Those that began under the other policy count in the order of this one.
    client.picker.end(begun[0])
    assert client.begin().instance.instance == "1"
    client.begin()
    client.begin()
    with pytest.raises(ResourceExhausted):
        client.begin()


@pytest.mark.parametrize("meanwhile", ["least_connections", "round_robin"])
def test_where_calls_have_ended_the_next_one_begins_whatever_held_meanwhile(meanwhile: Policy) -> None:
    client = Client(3, policy="least_connections")
    begun = [client.begin(avoid=("0", "2")) for _ in range(5)]
    assert [client.begin().instance.instance for _ in range(2)] == ["0", "2"]
    client.picker.set(TrafficSettings(policy=meanwhile))
    for candidate in begun:
        client.picker.end(candidate)
    client.picker.set(TrafficSettings(policy="least_connections"))
    assert client.begin().instance.instance == "1"


def test_a_limit_that_is_switched_off_is_gone() -> None:
    client = Client(1)
    begun = [client.begin() for _ in range(40)]
    client.now = 1.0
    for candidate in begun:
        client.picker.record(candidate, "overloaded", 1.0, client.now)
    with pytest.raises(ResourceExhausted):
        client.begin("critical")
    client.picker.set(TrafficSettings(limit=False))
    client.begin("low")


def test_successes_earn_retries() -> None:
    client = Client(retry_share=0.5)
    while client.picker.budget.take():
        pass
    client.call()
    assert not client.picker.budget.take()
    client.call()
    assert client.picker.budget.take()


def test_a_newcomer_gets_less_than_its_share_while_it_is_cold() -> None:
    shares = []
    for slow_start_seconds in (0.0, 30.0):
        client, dice = Client(4, policy="least_cost", slow_start_seconds=slow_start_seconds), Random(1)
        client.picker.fleet.take(appeared(instance("new")), 0.0)
        taken: Counter[str] = Counter()
        for turn in range(1_000):
            candidate = client.picker.pick("normal", (), turn, dice.random(), 1.0)
            taken[candidate.instance.instance] += 1
            # All answer alike.
            client.picker.record(candidate, "ok", 0.02, 1.0)
            client.picker.end(candidate)
        shares.append(taken["new"] / 1_000)
    assert shares[1] < 0.05 < 0.15 < shares[0]


def test_the_zone_of_the_client_is_preferred() -> None:
    fleet, dice = Fleet("me", "eu-1a"), Random(1)
    fleet.take(snapshot(*(instance(str(number), zone=f"eu-1{'abc'[number % 3]}") for number in range(12))), 0.0)
    picker, taken = Picker("users", fleet, TrafficSettings()), Counter[str]()
    for turn in range(1_000):
        candidate = picker.pick("normal", (), turn, dice.random(), turn / 100)
        taken[candidate.instance.zone] += 1
        picker.record(candidate, "ok", 0.02, turn / 100)
        picker.end(candidate)
    assert taken["eu-1a"] > 900


@pytest.mark.parametrize("policy", get_args(Policy))
def test_a_pick_costs_next_to_nothing_and_the_same_for_a_thousand_instances(policy: Policy) -> None:
    # The bounds are those of a quiet machine.
    few = many = 1e9
    # A busy machine makes readings longer: the best of several counts, and no more are taken than are needed.
    for _ in range(READINGS):
        few, many = min(few, microseconds(policy, FEW, 5_000)), min(many, microseconds(policy, MANY, 5_000))
        if many <= min(US_MAX, TIMES_MAX * few) and few <= US_MAX:
            break
    assert few <= US_MAX
    assert many <= min(US_MAX, TIMES_MAX * few)
