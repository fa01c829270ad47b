"""What runs out, and when: armed, renewed, dropped, and never in a burst."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.registry.timers import InstanceTimer as Timer
from workers.machine.deadlines import LEFT_OVER_MAX, Deadlines, step_max_seconds

A, B = ("service/orders", "a"), ("service/orders", "b")
LEASE, TTL = Timer("a", 0, "lease", 5.0), Timer("a", 0, "ttl", 3.0, "ttl")
STEP = 0.1


class Clock:
    """Deadlines and the monotonic clock that they are told."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.deadlines = Deadlines()
        self.deadlines.advance(self.now)

    def passes(self, seconds: float) -> list[tuple[tuple[str, str], Timer]]:
        """So much time passes in small steps; all that ran out, in order."""
        due = []
        for _ in range(round(seconds / STEP)):
            due += self.jumps(STEP)
        return due

    def jumps(self, seconds: float) -> list[tuple[tuple[str, str], Timer]]:
        """So much time passes between two ticks."""
        self.now += seconds
        self.deadlines.advance(self.now)
        return self.deadlines.due(100)


def armed(*timers: Timer, subject=A) -> Clock:
    clock = Clock()
    clock.deadlines.arm(subject, timers)
    return clock


def test_a_timer_runs_out_once_after_its_length():
    clock = armed(LEASE)
    assert clock.passes(4.8) == []
    assert clock.passes(0.4) == [(A, LEASE)]
    assert clock.passes(60) == []
    assert len(clock.deadlines) == 0


def test_timers_run_out_in_the_order_of_their_deadlines():
    assert armed(LEASE, TTL).passes(6) == [(A, TTL), (A, LEASE)]


def test_no_more_are_told_than_asked_for_and_none_is_lost():
    clock = Clock()
    for number in range(5):
        clock.deadlines.arm(("s", str(number)), [LEASE])
    clock.passes(4.8)
    for _ in range(5):
        clock.now += STEP
        clock.deadlines.advance(clock.now)
    assert [len(clock.deadlines.due(2)) for _ in range(4)] == [2, 2, 1, 0]


def test_what_could_not_be_dealt_with_is_due_again_at_once():
    clock = armed(LEASE, TTL)
    told = clock.passes(6)
    clock.deadlines.put_back(told[1:])
    assert len(clock.deadlines) == 1
    assert (clock.jumps(0.0), clock.passes(60)) == ([(A, LEASE)], [])


def test_a_renewed_timer_has_its_full_length_again():
    clock = armed(LEASE, TTL)
    clock.passes(2)
    clock.deadlines.renew(A, lambda timer: timer.kind == "lease")
    assert clock.passes(4.8) == [(A, TTL)]
    assert clock.passes(0.4) == [(A, LEASE)]


def test_a_renewal_never_shortens():
    clock = Clock()
    clock.deadlines.arm(A, [LEASE], lambda timer: timer.seconds + 10.0)
    clock.deadlines.renew(A, lambda _timer: True)
    assert clock.passes(14.8) == []
    assert clock.passes(0.4) == [(A, LEASE)]


def test_renewing_who_has_no_timers_is_nothing():
    clock = Clock()
    clock.deadlines.renew(A, lambda _timer: True)
    assert clock.passes(60) == []


def test_arming_again_lets_known_timers_go_on_and_drops_the_others():
    clock = armed(LEASE, TTL)
    clock.passes(2)
    clock.deadlines.arm(A, [LEASE])
    assert len(clock.deadlines) == 1
    assert clock.passes(2.8) == []
    assert clock.passes(0.4) == [(A, LEASE)]


def test_a_timer_that_comes_back_starts_anew():
    clock = armed(LEASE)
    clock.passes(3)
    clock.deadlines.arm(A, [])
    clock.deadlines.arm(A, [LEASE])
    assert clock.passes(4.8) == []
    assert clock.passes(0.4) == [(A, LEASE)]
    assert clock.passes(60) == []


def test_a_timer_that_comes_and_goes_for_ever_takes_no_more_room():
    clock = armed(LEASE)
    for _ in range(2_000):
        clock.deadlines.arm(A, [])
        clock.deadlines.arm(A, [LEASE])
        assert clock.jumps(STEP) == []
    assert len(clock.deadlines._heap) <= LEASE.seconds / STEP + 2


def test_timers_of_subjects_that_come_and_go_are_not_kept_until_they_would_have_run_out():
    day = Timer("a", 0, "lease", 86_400.0)
    clock = armed(LEASE, TTL)
    for number in range(3_000):
        clock.deadlines.arm(("service/orders", str(number)), [day])
    assert len(clock.deadlines._heap) == 3_002
    for number in range(10_000):
        clock.deadlines.arm(("service/orders", str(number)), [])
        clock.deadlines.arm(("service/orders", str(number + 3_000)), [day])
    # As many again as are armed may be left over, and some; and none that is armed was thrown out.
    assert len(clock.deadlines) == 3_002
    assert len(clock.deadlines._heap) <= 2 * 3_002 + LEFT_OVER_MAX + 1
    assert clock.passes(6) == [(A, TTL), (A, LEASE)]
    assert len({entry[2] for entry in clock.deadlines._heap if clock.deadlines._armed.get(entry[2])}) == 3_000


def test_another_incarnation_or_length_is_another_timer():
    clock = armed(LEASE)
    clock.passes(4)
    clock.deadlines.arm(A, [Timer("a", 7, "lease", 5.0)])
    assert clock.passes(4.8) == []


def test_subjects_do_not_touch_each_other():
    clock = armed(LEASE)
    clock.deadlines.arm(B, [LEASE])
    clock.deadlines.arm(B, [])
    assert clock.passes(6) == [(A, LEASE)]


def test_a_reigns_extra_seconds_come_on_top():
    clock = Clock()
    clock.deadlines.arm(A, [TTL], lambda timer: timer.seconds + 5.0)
    assert clock.passes(7.8) == []
    assert clock.passes(0.4) == [(A, TTL)]


def test_the_first_tick_lets_no_time_pass():
    deadlines = Deadlines()
    deadlines.arm(A, [TTL])
    deadlines.advance(1_000_000.0)
    assert deadlines.due(100) == []


@pytest.mark.parametrize("gap", [5.0, 60.0, 86_400.0])
def test_a_late_tick_moves_every_deadline_so_nothing_expires_in_a_burst(gap):
    clock = armed(LEASE, TTL)
    assert clock.jumps(gap) == []
    assert clock.passes(3.0 - step_max_seconds - 2 * STEP) == []
    assert clock.passes(step_max_seconds + 4 * STEP) == [(A, TTL)]


def test_a_lease_of_a_second_survives_a_late_tick_if_it_was_renewed_in_good_time():
    short = Timer("a", 0, "lease", 1.0)
    clock = armed(short)
    clock.passes(0.4)
    assert clock.jumps(30.0) == []


def test_a_clock_that_goes_back_lets_no_time_pass():
    clock = armed(TTL)
    assert clock.jumps(-50.0) == []
    assert clock.passes(2.8) == []
    assert clock.passes(0.4) == [(A, TTL)]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("arm"), st.sampled_from([A, B]), st.sets(st.sampled_from([LEASE, TTL]))),
            st.tuples(st.just("renew"), st.sampled_from([A, B]), st.sampled_from(["lease", "ttl"])),
            st.tuples(st.just("pass"), st.integers(1, 40), st.none()),
        ),
        max_size=40,
    )
)
def test_it_tells_what_a_plain_list_of_deadlines_would(steps):
    clock, plain, now = Clock(), {}, 0
    for what, subject, detail in steps:
        if what == "arm":
            clock.deadlines.arm(subject, detail)
            kept = {key: at for key, at in plain.items() if key[0] != subject or key[1] in detail}
            plain = {(subject, timer): now + round(timer.seconds * 8) for timer in detail} | kept
        elif what == "renew":
            clock.deadlines.renew(subject, lambda timer, kind=detail: timer.kind == kind)
            renewed = {key for key in plain if key[0] == subject and key[1].kind == detail}
            plain |= {key: now + round(key[1].seconds * 8) for key in renewed}
        else:
            for _ in range(subject):
                now += 1
                clock.now += 0.125  # A power of two: sums of it are exact.
                clock.deadlines.advance(clock.now)
                expected = {key for key, at in plain.items() if at <= now}
                assert set(clock.deadlines.due(100)) == expected
                plain = {key: at for key, at in plain.items() if key not in expected}
        assert len(clock.deadlines) == len(plain)
