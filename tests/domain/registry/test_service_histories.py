"""Any sequence of commands: decisions are deterministic, folds never refuse them, replay gives the same state."""

from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.catalogue import COMMANDS
from domain.message import to_plain
from domain.registry import service as s
from domain.registry.instance import InstanceWeightChanged, evolve
from domain.registry.status import health_of
from infra.log.codec import event_from
from muster.wire.error import Refused
from projections.registry.instances import INSTANCES
from tests.histories import commands
from tests.sample import evolved, recorded, registered


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
            wired = event_from(event.type, to_plain(event))
            assert wired == event
            told = recorded(wired, state.version, state.version)
            rows[wired.instance] = INSTANCES.fold(rows.get(wired.instance), told)
            state, replayed = evolved(state, event), s.evolve(replayed, told)
    assert replayed == state
    assert {name: row for name, row in rows.items() if row is not None} == dict(state.instances)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), commands), max_size=30))
def test_every_version_stays_what_it_is_whichever_is_folded_on(steps):
    versions = [(s.INITIAL, {})]
    for choice, command in steps:
        state, instances = versions[choice % len(versions)]
        events = decided(command, state)
        for event in events if isinstance(events, list) else []:
            told = recorded(event, state.version, state.version)
            after = evolve(instances.get(event.instance), told)
            assert dict(versions[-1][0].instances) == versions[-1][1], "whichever was read last"
            state, instances = s.evolve(state, told), {**instances, event.instance: after}
            versions.append((state, {name: instance for name, instance in instances.items() if instance is not None}))
    for state, instances in [*versions, *reversed(versions)]:
        assert dict(state.instances) == instances


def test_versions_are_told_apart_by_what_they_hold():
    a, b = (recorded(registered(name), 0, 0) for name in "ab")
    one, other = s.evolve(s.INITIAL, a), s.evolve(s.INITIAL, b)
    assert one == s.evolve(s.INITIAL, a)
    assert one != other
    assert s.evolve(one, b) != one
    both = one.instances, other.instances
    assert [list(instances) for instances in both] == [["a"], ["b"]], "services share nothing"


def test_a_version_of_long_ago_can_be_read_and_dropped():
    state = first = s.evolve(s.INITIAL, recorded(registered("a"), 0, 0))
    for version in range(1, 20_000):
        state = s.evolve(state, recorded(InstanceWeightChanged(instance="a", weight=1), version, version))
    assert first.instances["a"].version == 0
    assert state.instances["a"].version == 19_999
    assert first.instances["a"].version == 0
    del state, first  # A chain of 20,000 objects.
