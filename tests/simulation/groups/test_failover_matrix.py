"""A failover under faults: every step, and everything that can go wrong at it."""

from typing import Final

import pytest

from domain.groups.member import GroupReclaimed, MemberPromoted
from domain.groups.state import FailoverEnded
from tests.simulation.groups.faults import BACK, FORWARD, HARMLESS, KINDS, STEPS, play

PIVOT: Final = FORWARD.index("promote")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", STEPS)
def test_a_failover_comes_to_its_end_whatever_happens(step: str, kind: str) -> None:
    world = play(step, kind)
    assert world.weather.fired, "nothing went wrong"
    events = [each.event for each in world.history]
    begun = [event for event in events if isinstance(event, MemberPromoted | GroupReclaimed)]
    assert [event.epoch for event in begun] == list(range(1, len(begun) + 1))
    # The first one gave the group its first primary.
    first, *outcomes = [event.outcome for event in events if isinstance(event, FailoverEnded)]
    assert first == "completed"
    # Nobody repeats an operator's word; what others say they say until it is heard.
    unheard = kind in ("lost word", "crash before the record") and step in ("take", "close", *BACK)
    if kind == "abort" and step in FORWARD:
        assert outcomes[0] == ("aborted" if FORWARD.index(step) <= PIVOT else "completed")
    elif kind in HARMLESS and step in BACK:
        assert outcomes == ["completed" if unheard else "aborted"]
    elif kind in HARMLESS:
        assert outcomes == ([] if unheard else ["completed"])
