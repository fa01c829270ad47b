"""Any sequence of commands: decisions are deterministic, folds never refuse them, replay gives the same state."""

from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from domain import service as s
from domain.catalogue import COMMANDS
from domain.error import Refused
from domain.instance import health_of
from infra.codec import event_from
from projections.instances import INSTANCES
from tests.histories import commands
from tests.sample import evolved, recorded


def decided(command, state):
    """The events, or the refusal as (class, detail)."""
    try:
        return s.decide(command, state)
    except Refused as refusal:
        return (type(refusal), refusal.detail)


@settings(max_examples=200, deadline=None)
@given(st.lists(commands, max_size=30))
def test_any_sequence_of_commands_makes_a_history_that_can_be_replayed(sequence):
    state, history = s.INITIAL, []
    for command in sequence:
        events = decided(command, state)
        assert decided(command, state) == events, "deciding twice gives the same"
        if isinstance(events, tuple):
            continue
        state = reduce(evolved, events, state)
        history += events
        assert decided(command, state) == [] or isinstance(decided(command, state), tuple), "a repeat records nothing"
        assert all(told.health == health_of(told.checks.values()) for told in state.instances.values()), (
            "the worst check wins"
        )
    assert state.version == len(history)
    assert reduce(evolved, history, s.INITIAL) == state


@settings(max_examples=100, deadline=None)
@given(st.lists(commands, max_size=30))
def test_replay_from_the_wire_gives_the_same_state_and_rows(sequence):
    state, rows = s.INITIAL, {}
    replayed = s.INITIAL
    for command in sequence:
        if command.type in COMMANDS:
            assert type(command).model_validate_json(command.model_dump_json()) == command
        events = decided(command, state)
        for event in events if isinstance(events, list) else []:
            wired = event_from(event.type, event.model_dump(mode="json"))
            assert wired == event
            told = recorded(wired, state.version, state.version)
            rows[wired.instance] = INSTANCES.evolve(rows.get(wired.instance), told)
            state, replayed = evolved(state, event), s.evolve(replayed, told)
    assert replayed == state
    assert {name: row for name, row in rows.items() if row is not None} == dict(state.instances)
