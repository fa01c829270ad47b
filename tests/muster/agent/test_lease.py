"""A node's lease as it counts it itself: on a clock that the test turns."""

import math

import pytest

from muster.agent.lease import LEASE_SHARE, Lease


class Turned:
    """A lease of 10 seconds, its clock, and what was told last."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told = [-math.inf]
        self.lease = Lease(self.told.append, clock=lambda: self.now)

    def renew(self, seconds_ago: float = 0.0, *, anew: bool = False) -> None:
        self.lease.renewed(self.now - seconds_ago, 10.0, anew=anew)

    @property
    def serves(self) -> bool:
        return self.told[-1] > self.now

    def settle(self) -> bool:
        return self.lease.settled(self.lease.lapses)


@pytest.fixture
def turned() -> Turned:
    return Turned()


def test_a_lease_alone_lets_nothing_be_served(turned: Turned):
    turned.renew()
    assert not turned.serves


def test_with_its_copies_compared_the_node_serves_for_its_share_of_the_lease_from_when_it_asked(turned: Turned):
    turned.renew(seconds_ago=2.0)
    assert turned.settle()
    assert turned.told[-1] == 98.0 + 10.0 * LEASE_SHARE


def test_a_renewal_in_time_needs_no_other_comparison(turned: Turned):
    turned.renew()
    turned.settle()
    turned.now += 8.9
    turned.renew()
    assert turned.told[-1] == 108.9 + 9.0
    assert turned.lease.lapses == 1


def test_after_a_lapse_nothing_is_served_before_the_copies_were_compared_again(turned: Turned):
    turned.renew()
    turned.settle()
    turned.now += 9.0
    turned.renew()
    assert not turned.serves
    assert turned.lease.lapses == 2
    turned.settle()
    assert turned.serves


def test_a_comparison_that_began_before_a_lapse_counts_for_nothing_behind_it(turned: Turned):
    turned.renew()
    begun = turned.lease.lapses
    turned.now += 20
    turned.renew()
    assert not turned.lease.settled(begun)
    assert not turned.serves


def test_a_comparison_that_outlasts_the_lease_counts_for_nothing(turned: Turned):
    turned.renew()
    turned.now += 9.0
    assert not turned.settle()
    assert not turned.serves


def test_an_answer_that_comes_when_its_lease_is_over_gains_nothing(turned: Turned):
    turned.renew(seconds_ago=9.0)
    assert turned.lease.lapses == 0


def test_who_was_held_for_lost_compares_again_though_its_own_clock_says_otherwise(turned: Turned):
    turned.renew()
    turned.settle()
    turned.renew(anew=True)
    assert not turned.serves
    assert turned.lease.lapses == 2


def test_a_late_answer_never_shortens_what_is_held(turned: Turned):
    turned.renew()
    turned.settle()
    turned.renew(seconds_ago=5.0)
    assert turned.told[-1] == 109.0


def test_who_ended_serves_nothing(turned: Turned):
    turned.renew()
    turned.settle()
    turned.lease.end()
    assert turned.told[-1] == -math.inf
