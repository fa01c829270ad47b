"""The clock of leases is the one that goes on while the machine is suspended."""

import time

import pytest

from muster.clock import elapsed_seconds


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has such a clock")
def test_leases_are_counted_on_the_clock_that_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    # The machine has slept for an hour: the two clocks of the system differ by it from then on.
    read, slept = time.clock_gettime, 3_600.0
    monkeypatch.setattr(time, "clock_gettime", lambda clock: read(clock) + slept * (clock == time.CLOCK_BOOTTIME))
    assert elapsed_seconds() >= time.monotonic() + slept - 1.0
