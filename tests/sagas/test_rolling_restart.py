"""A saga whose root is a service, through the real partition machine: started, paused, undone, and carried on from the log."""

from typing import Any

import pytest

from domain.registry.service import RegisterInstance
from domain.saga import AbortSaga, PauseSaga, ReportStep, ResumeSaga, RetryStep, Saga
from muster.wire.command import Command, Envelope
from muster.wire.registry.spec import Spec
from sagas.engine.definition import table
from sagas.engine.wanted import pending, task_id
from tests.machine import Machine, statuses
from tests.sagas.rolling_restart import RESTART, RestartInstance
from workers.machine import partition
from workers.machine.aggregate import Aggregates

ORDERS = "service/orders"


class Restarts(Machine):
    """A machine that knows restarts, with the instances a and b of the service orders, of release 1."""

    def __init__(self) -> None:
        super().__init__(Aggregates(table(RESTART)))
        self.count = 0
        for instance in ("a", "b"):
            spec = Spec(address="10.0.0.7", port=8080, metadata={"release": "1"})
            self.ask(ORDERS, RegisterInstance(instance=instance, spec=spec))

    def ask(self, stream: str, command: Command) -> str:
        """What became of the command."""
        self.count += 1
        return statuses([self.answer(Envelope(f"c{self.count}", stream, command, actor="ann"))])[0]

    def restart(self, instance: str = "a", **how: Any) -> str:
        """The stream of a restart that has just begun."""
        known = set(self.partition.streams)
        assert self.ask(ORDERS, RestartInstance(instance=instance, host="h1", release="2", **how)) == "accepted"
        [started] = self.partition.streams.keys() - known
        return started

    def saga(self, stream: str) -> Saga:
        return self.partition.streams[stream]

    def instance(self, instance: str = "a") -> Any:
        return self.partition.streams[ORDERS].instances[instance]

    def report(self, stream: str, outcome: str = "done", node: str = "h1", **more: Any) -> str:
        """What became of the host's report about the step under way."""
        saga = self.saga(stream)
        assert saga.step is not None
        about = {"step": saga.step, "attempt": saga.attempt, "node": node, "outcome": outcome}
        return self.ask(stream, ReportStep(**about, **more))

    def until(self, stream: str, step: str) -> None:
        """Let the host do its part up to the step."""
        while self.saga(stream).step != step:
            assert self.report(stream, result={"release": "2"}) == "accepted"

    def takes_over(self) -> None:
        """Another machine carries on, from the log alone."""
        before = dict(self.partition.streams)
        self.claims("w2", self.recovered())
        assert self.partition.streams.keys() == before.keys()


def test_it_runs_to_its_end_and_changes_its_root_on_the_way() -> None:
    machine = Restarts()
    stream = machine.restart()
    assert machine.instance().draining
    machine.until(stream, "warm_up")
    assert machine.instance().spec.metadata == {"release": "2"}
    assert machine.instance().maintenance
    machine.report(stream)
    assert machine.saga(stream).step == "observe"
    machine.passes(61.0)
    assert (machine.saga(stream).phase, machine.saga(stream).step) == ("completed", None)
    assert not machine.instance().maintenance
    assert not machine.instance().draining


def test_who_reads_the_log_keeps_as_many_that_have_ended_as_who_wrote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "ended_sagas_max", 2)
    machine = Restarts()
    streams = [machine.restart("a"), machine.restart("b")]
    for stream in streams:
        machine.until(stream, "warm_up")
        machine.report(stream)
    machine.passes(61.0)
    assert all(machine.saga(stream).ended for stream in streams)
    assert set(streams) <= machine.partition.streams.keys() == machine.recovered().streams.keys()


def test_its_stream_is_its_roots_and_no_two_have_the_same() -> None:
    machine = Restarts()
    first, second = machine.restart("a"), machine.restart("b")
    assert first.startswith("service/orders/restart/")
    assert second.startswith("service/orders/restart/")
    assert first != second
    machine.until(second, "warm_up")
    assert machine.saga(first).step == "fetch"


def test_what_it_changes_at_its_root_is_recorded_in_one_batch_with_its_own_event() -> None:
    machine = Restarts()
    stream = machine.restart()
    machine.until(stream, "restart")
    before = len(machine.log)
    machine.report(stream, result={"release": "2"})
    recorded = [recorded for recorded, _ in machine.folded]
    assert [(each.stream, each.event.type) for each in recorded] == [
        (stream, "muster.saga.step_succeeded.v1"),
        (ORDERS, "muster.instance.metadata_changed.v1"),
        (stream, "muster.saga.step_succeeded.v1"),
    ]
    assert {each.command_id for each in recorded} == {f"c{machine.count}"}
    assert {key for key, _ in machine.log[before:]} == {ORDERS.encode()}


def test_a_restart_to_the_same_release_is_already_so_and_one_of_nobody_is_refused() -> None:
    machine = Restarts()
    assert machine.ask(ORDERS, RestartInstance(instance="a", host="h1", release="1")) == "unchanged"
    assert machine.ask(ORDERS, RestartInstance(instance="x", host="h1", release="2")) == "InstanceNotFound"
    assert set(machine.partition.streams) == {ORDERS}


def test_paused_it_wants_nothing_and_resumed_the_same_again() -> None:
    machine = Restarts()
    stream = machine.restart()
    wanted = pending(machine.saga(stream), RESTART)
    machine.ask(stream, PauseSaga())
    assert pending(machine.saga(stream), RESTART) == ()
    assert machine.passes(40.0) == []
    machine.ask(stream, ResumeSaga())
    assert pending(machine.saga(stream), RESTART)[0] == wanted[0]


def test_an_attempt_without_an_answer_times_out_and_is_tried_again() -> None:
    machine = Restarts()
    stream = machine.restart()
    machine.passes(31.0)
    assert machine.saga(stream).standing == "retrying"
    machine.passes(1.0)
    assert (machine.saga(stream).standing, machine.saga(stream).attempt) == ("running", 2)


def test_what_fails_for_good_before_the_pivot_is_undone_at_the_root_too() -> None:
    machine = Restarts()
    stream = machine.restart()
    machine.until(stream, "restart")
    machine.report(stream, "failed", error="no space left", final=True)
    assert (machine.saga(stream).phase, machine.saga(stream).step) == ("compensating", "revert")
    machine.report(stream)
    machine.passes(6.0)
    assert machine.saga(stream).phase == "compensated"
    assert machine.instance().spec.metadata == {"release": "1"}
    assert not machine.instance().maintenance
    assert not machine.instance().draining


def test_an_undoing_that_fails_stands_blocked_until_an_operator_retries_it() -> None:
    machine = Restarts()
    stream = machine.restart()
    machine.until(stream, "restart")
    machine.ask(stream, AbortSaga())
    machine.report(stream, "failed", error="the host is silent", final=True)
    assert machine.saga(stream).standing == "blocked"
    machine.ask(stream, RetryStep())
    machine.report(stream)
    machine.passes(6.0)
    assert machine.saga(stream).phase == "compensated"


def test_a_machine_that_takes_over_from_the_log_wants_the_same_under_the_same_id() -> None:
    machine = Restarts()
    stream = machine.restart()
    machine.until(stream, "restart")
    before, id_ = machine.saga(stream), task_id(machine.saga(stream))
    machine.takes_over()
    assert machine.saga(stream) == before
    assert task_id(machine.saga(stream)) == id_
    machine.until(stream, "warm_up")
    assert machine.instance().spec.metadata == {"release": "2"}


def test_a_timer_gets_its_full_length_again_after_a_takeover() -> None:
    machine = Restarts()
    stream = machine.restart()
    machine.until(stream, "warm_up")
    machine.report(stream)
    machine.passes(40.0)
    machine.takes_over()
    machine.passes(40.0)
    assert machine.saga(stream).step == "observe"
    machine.passes(25.0)
    assert machine.saga(stream).phase == "completed"
