"""Any sequence of commands: decisions are deterministic, folds never refuse them, replay gives the same state."""

from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from domain import service as s
from domain.catalogue import COMMANDS
from domain.check import HttpCheck, TcpCheck, TtlCheck
from domain.error import Refused
from domain.instance import Spec, health_of
from infra.codec import event_from
from projections.instances import INSTANCES
from tests.sample import recorded

names = st.sampled_from(["a", "b", "c"])
incarnations = st.none() | st.integers(0, 6)
statuses = st.sampled_from(["healthy", "unhealthy", "unknown"])
causes = st.none() | st.text(st.characters(codec="utf-8"), max_size=20)
checks = st.lists(
    st.sampled_from(
        [
            HttpCheck(url="http://host/", name="http"),
            HttpCheck(url="http://host/other", name="http-2"),
            TcpCheck(host="host", port=80, name="tcp"),
            TtlCheck(ttl_seconds=5.0, name="ttl"),
            TtlCheck(ttl_seconds=9.0, name="ttl-2"),
        ]
    ),
    unique_by=lambda check: check.name,
    max_size=3,
).map(tuple)
specs = st.builds(
    Spec,
    address=st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    port=st.sampled_from([80, 81]),
    metadata=st.dictionaries(st.sampled_from(["k", "l"]), st.text(max_size=5), max_size=2),
    tags=st.sampled_from([(), ("blue",), ("blue", "red")]),
    zone=st.sampled_from(["", "z"]),
    weight=st.integers(0, 2),
    checks=checks,
    lease_seconds=st.sampled_from([None, 5.0]),
    deregister_after_seconds=st.sampled_from([None, 5.0]),
)
check_names = st.sampled_from(["http", "http-2", "tcp", "ttl", "ttl-2", "reported"])
commands = st.one_of(
    st.builds(s.RegisterInstance, instance=names, spec=specs),
    st.builds(s.DeregisterInstance, instance=names, incarnation=incarnations),
    st.builds(
        s.ReportHealth, instance=names, status=statuses, cause=causes, check=check_names, incarnation=incarnations
    ),
    st.builds(s.Heartbeat, instance=names, incarnation=incarnations),
    st.builds(s.SetMaintenance, instance=names),
    st.builds(s.ClearMaintenance, instance=names),
    st.builds(s.DrainInstance, instance=names),
    st.builds(s.UndrainInstance, instance=names),
    st.builds(
        s.ObserveCheck,
        instance=names,
        incarnation=st.integers(0, 6),
        check=check_names,
        status=statuses,
        cause=causes,
    ),
    st.builds(s.ExpireLease, instance=names, incarnation=st.integers(0, 6)),
    st.builds(s.ExpireTtl, instance=names, incarnation=st.integers(0, 6), check=check_names),
    st.builds(s.ExpireUnhealthy, instance=names, incarnation=st.integers(0, 6)),
)


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
        state = reduce(s.evolve, events, state)
        history += events
        assert decided(command, state) == [] or isinstance(decided(command, state), tuple), "a repeat records nothing"
        assert all(told.health == health_of(told.checks) for told in state.instances.values()), "the worst check wins"
    assert state.version == len(history)
    assert reduce(s.evolve, history, s.INITIAL) == state


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
            state, replayed = s.evolve(state, event), s.evolve(replayed, wired)
    assert replayed == state
    assert {name: row.instance for name, row in rows.items() if row is not None} == dict(state.instances)
