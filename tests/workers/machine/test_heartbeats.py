"""Heartbeats of many instances in one message: they do what a command of each would, and nothing is remembered of them."""

from typing import Final, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.registry.service import Heartbeat, RegisterInstance, ReportHealth, renews
from domain.registry.timers import InstanceTimer
from muster.wire.command import Envelope
from muster.wire.error import MusterError
from muster.wire.registry.check import TtlCheck
from muster.wire.registry.spec import Spec
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from tests.machine import Machine
from tests.sample import NOON, envelope
from workers.machine.group import Group

STREAM: Final = "service/orders"
LEASED: Final = Spec(address="10.0.0.7", port=8080, lease_seconds=1.0)
CHECKED: Final = Spec(
    address="10.0.0.7",
    port=8080,
    checks=(TtlCheck(ttl_seconds=0.5, name="one"), TtlCheck(ttl_seconds=0.8, name="two")),
    deregister_after_seconds=2.0,
)
SPECS: Final = {"a": LEASED, "b": LEASED, "c": CHECKED}


def registered(**limits: int) -> tuple[Machine, dict[str, int]]:
    machine, incarnations = Machine(**limits), {}
    for name, spec in SPECS.items():
        answer = machine.answer(envelope(f"register-{name}", RegisterInstance(instance=name, spec=spec)))
        assert answer.incarnation is not None
        incarnations[name] = answer.incarnation
    return machine, incarnations


def step(machine: Machine, *beats: Beat, service: str = "orders") -> Group:
    return machine.partition.step(NOON, heartbeats=[Heartbeats("host-7", service, list(beats))])


def hear(machine: Machine, *beats: Beat) -> list[tuple[str, MusterError]]:
    group = step(machine, *beats)
    machine.commit(group)
    [unheard] = group.heard
    return unheard


said = st.tuples(st.sampled_from([*SPECS, "none"]), st.sampled_from([0, 0, 0, 1]))


@given(st.lists(said, min_size=1, max_size=10), st.sampled_from([0.0, 0.4, 0.6, 0.9, 1.2]))
def test_beats_in_a_message_are_what_they_are_as_commands(said: list[tuple[str, int]], silent_seconds: float) -> None:
    (together, incarnations), (apart, _) = registered(), registered()
    for machine in (together, apart):
        machine.passes(silent_seconds)
    beats = [Beat(name, incarnations.get(name, 0) + wrong) for name, wrong in said]
    unheard = hear(together, *beats)
    answers = [
        apart.answer(Envelope(str(number), STREAM, Heartbeat(instance=beat.instance, incarnation=beat.incarnation)))
        for number, beat in enumerate(beats)
    ]
    refused = [
        (beat.instance, answer.error["name"]) for beat, answer in zip(beats, answers, strict=True) if answer.error
    ]
    assert [(name, error.name) for name, error in unheard] == refused
    assert together.partition.streams == apart.partition.streams
    # What each has renewed shows in when it runs out.
    for _ in range(25):
        assert [told.event for told in together.passes(0.1)] == [told.event for told in apart.passes(0.1)]


def test_a_message_that_changes_nothing_is_in_no_log_and_in_no_memory_of_commands() -> None:
    machine, incarnations = registered()
    before, remembered = len(machine.log), len(list(machine.partition.ids.recorded()))
    group = step(machine, Beat("a", incarnations["a"]), Beat("b", incarnations["b"]))
    machine.commit(group)
    assert (group.batch, group.answered, len(machine.log)) == ([], {}, before)
    assert len(list(machine.partition.ids.recorded())) == remembered


def test_who_makes_a_check_healthy_is_in_the_log() -> None:
    machine, incarnations = registered()
    machine.passes(0.6)
    group = step(machine, Beat("c", incarnations["c"]))
    events = machine.commit(group)
    assert {told.actor for told in events} == {"host-7"}
    assert machine.partition.streams[STREAM].instances["c"].health == "healthy"
    assert machine.recovered().streams == machine.partition.streams


def test_nothing_is_renewed_by_a_group_that_the_log_did_not_take() -> None:
    machine, incarnations = registered()
    machine.passes(0.7)
    machine.partition.rollback(step(machine, Beat("a", incarnations["a"])))
    assert [told.event.type for told in machine.passes(0.3) if getattr(told.event, "instance", "") == "a"] == [
        "muster.instance.lease_expired.v1",
        "muster.instance.deregistered.v1",
    ]


def test_a_message_that_does_not_fit_is_heard_again_whole() -> None:
    machine, incarnations = registered(batch_records_max=2)
    another = machine.answer(envelope("another", RegisterInstance(instance="d", spec=CHECKED))).incarnation
    assert another is not None
    message = Beat("c", incarnations["c"]), Beat("a", incarnations["a"]), Beat("d", another)
    events = 0
    for _ in range(9):
        group = step(machine, *message)
        events += len(machine.commit(group))
        if group.heard:
            break
    assert (group.heard, events) == ([[]], 4)


def test_a_beat_for_a_service_of_another_partition_is_refused() -> None:
    machine = Machine(partitions=1_000)
    group = step(machine, Beat("a", 0), service="users")
    [[(instance, error)]] = group.heard
    assert (instance, error.name) == ("a", "WrongPartition")


@pytest.mark.parametrize("status", ["unhealthy", "unknown"])
def test_a_reported_illness_goes_on_whatever_is_heard(status: str) -> None:
    machine, incarnations = registered()
    machine.answer(envelope("ill", ReportHealth(instance="a", status=status)))  # type: ignore[arg-type]
    assert hear(machine, Beat("a", incarnations["a"])) == []
    assert machine.partition.streams[STREAM].instances["a"].health == status


def test_a_beat_lengthens_neither_an_illness_nor_a_doubt() -> None:
    renewed = renews(Heartbeat(instance="a"))
    assert renewed is not None
    kinds: list[Literal["lease", "ttl", "unhealthy", "doubt"]] = ["lease", "ttl", "unhealthy", "doubt"]
    assert [kind for kind in kinds if renewed(InstanceTimer("a", 1, kind, 30.0))] == ["lease", "ttl"]
