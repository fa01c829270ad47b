"""The time of day of events: what NTP does is followed, and what only a wrong clock does is not, at once."""

from datetime import UTC, datetime, timedelta

import pytest

from infra.steady_clock import SteadyClock, jump_seconds_min, trust_seconds

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Machine:
    """A machine's two clocks: `passes` moves both, `set` only the one that can be set."""

    def __init__(self) -> None:
        self.said, self.unset = NOON, 1_000.0
        self.clock = SteadyClock(lambda: self.said, lambda: self.unset)

    def passes(self, seconds: float) -> None:
        self.said += timedelta(seconds=seconds)
        self.unset += seconds

    def set(self, seconds: float) -> None:
        self.said += timedelta(seconds=seconds)

    def given(self) -> float:
        """The instant given, in seconds since noon."""
        return (self.clock.now() - NOON).total_seconds()


def test_an_ordinary_clock_is_followed() -> None:
    machine = Machine()
    for _ in range(100):
        machine.passes(3_600)
        machine.set(jump_seconds_min / 2)  # However fast it drifts: each step is small.
        assert machine.clock.now() == machine.said
    assert (machine.clock.jumps, machine.clock.held_back_seconds) == (0, 0.0)


@pytest.mark.parametrize("seconds", [3_600.0, -3_600.0, 10 * 365 * 86_400.0, -20 * 365 * 86_400.0])
def test_a_jump_that_is_taken_back_leaves_no_trace_in_the_instants(seconds: float, caplog) -> None:
    machine = Machine()
    machine.passes(10)
    machine.set(seconds)
    machine.passes(5)
    assert machine.given() == 15
    assert (machine.clock.jumps, machine.clock.held_back_seconds) == (1, seconds)
    machine.passes(60)
    assert machine.given() == 75
    machine.set(-seconds)
    machine.passes(1)
    assert machine.given() == 76
    assert machine.clock.held_back_seconds == 0.0
    assert [record.seconds for record in caplog.records] == [seconds], "said once, however often it is read"


def test_what_the_clock_stands_by_is_believed_after_a_while() -> None:
    machine = Machine()
    machine.set(3_600)
    assert machine.given() == 0
    machine.passes(trust_seconds - 1)
    assert machine.given() == trust_seconds - 1
    machine.passes(2)
    assert machine.given() == 3_600 + trust_seconds + 1
    machine.passes(7)
    assert machine.given() == 3_600 + trust_seconds + 8


def test_each_jump_begins_the_wait_anew() -> None:
    machine = Machine()
    machine.set(3_600)
    machine.given()
    machine.passes(trust_seconds - 1)
    machine.set(3_600)
    assert machine.given() == trust_seconds - 1
    machine.passes(trust_seconds - 1)
    assert machine.given() == 2 * trust_seconds - 2
    assert (machine.clock.jumps, machine.clock.last_jump_seconds) == (2, 3_600)
