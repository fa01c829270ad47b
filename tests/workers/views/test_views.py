"""The views alone: whom they tell what, and when, and that skimming leads to the same as reading."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain import message
from domain.message import Recorded
from domain.registry import service as s
from domain.registry.instance import InstanceDeregistered, InstanceHeartbeatsChanged, evolve
from infra.log.port import START, Cursor
from sagas.engine.definition import table
from tests.sagas.rolling_restart import RESTART
from tests.sagas.test_rolling_restart import Restarts
from tests.sample import NOON, recorded, registered
from tests.workers.writer.history import HISTORIES, Told
from workers.machine.group import Folded
from workers.views.registry import Change
from workers.views.views import Views


def cursor(position: int) -> Cursor:
    return Cursor(position, position, START.head, 1, "w")


def test_listeners_miss_what_was_skimmed_and_nothing_behind_it() -> None:
    views, told = Views([0]), list[int]()

    def listen(partition: int, cursor: Cursor, changes: list[Change]) -> None:
        told.extend(change.recorded.position for change in changes)

    views.listen(listen)
    state = s.INITIAL
    for number in range(4):
        event = recorded(registered(f"i{number}", incarnation=number), number, number)
        if number == 2:
            views.complete(0, {"service/orders": state})
        state = s.evolve(state, event)
        (views.skim if number < 2 else views.apply)(0, [(event, evolve(None, event))], cursor(number))
    assert told == [2, 3]
    assert list(views.instances["orders"]) == ["i0", "i1", "i2", "i3"]
    assert views.services["orders",].instances == 4


@given(HISTORIES, st.data())
def test_what_is_skimmed_and_completed_is_as_if_it_had_been_read(
    batches: list[list[Told]], data: st.DataObject
) -> None:
    skimmed = data.draw(st.integers(0, len(batches)))
    completed = data.draw(st.sets(st.integers(0, skimmed)), label="for snapshots, in the middle")
    read, fast, states = Views([0]), Views([0]), dict[str, Any]()
    position = 0
    for index, batch in enumerate(batches):
        if index == skimmed or index in completed:
            fast.complete(0, states)
            assert (fast.services, fast.history, _in_order(fast)) == (read.services, read.history, _in_order(read))
        folded = list[Folded]()
        for stream, event in batch:
            version = states.get(stream, s.INITIAL).version
            told = Recorded(
                0, position, stream, version, NOON, event, f"e{position}", f"c{position}", None, "ann", None
            )
            states[stream] = state = s.evolve(states.get(stream, s.INITIAL), told)
            part = state.instances.get(told.event.instance)
            folded.append((told, part))
            position += 1
        read.apply(0, folded, cursor(position - 1))
        (fast.skim if index < skimmed else fast.apply)(0, folded, cursor(position - 1))
    fast.complete(0, states)
    assert (fast.services, fast.history, fast.cursors, fast.terms) == (
        read.services,
        read.history,
        read.cursors,
        read.terms,
    )
    assert _in_order(fast) == _in_order(read)


def test_those_who_are_heard_by_the_topic_are_counted_however_they_come_and_go() -> None:
    views, skimmed, state = Views([0]), Views([0]), s.INITIAL
    events = [
        registered("a"),
        registered("b", incarnation=1, heartbeats="topic", lease_seconds=10.0),
        registered("c", incarnation=2, heartbeats="topic", lease_seconds=10.0),
        InstanceHeartbeatsChanged(instance="a", heartbeats="topic"),
        InstanceHeartbeatsChanged(instance="b", heartbeats="direct"),
        InstanceDeregistered(instance="b", incarnation=1, cause="requested", health="healthy"),
        InstanceDeregistered(instance="c", incarnation=2, cause="requested", health="healthy"),
        InstanceDeregistered(instance="a", incarnation=0, cause="requested", health="healthy"),
    ]
    for position, (event, counted) in enumerate(zip(events, (0, 1, 2, 3, 2, 2, 1, 0), strict=True)):
        told = recorded(event, position, position)
        state = s.evolve(state, told)
        part = state.instances.get(event.instance)
        views.apply(0, [(told, part)], cursor(position))
        skimmed.skim(0, [(told, part)], cursor(position))
        skimmed.complete(0, {"service/orders": state})
        again = Views([0])
        again.registry.look("orders", state.instances.values())
        for seen in (views, skimmed, again):
            assert dict(seen.registry.by_topic) == ({"orders": counted} if counted else {})


def _in_order(views: Views) -> dict[str, list[Any]]:
    return {service: list(instances.values()) for service, instances in views.instances.items()}


@message.event
class BellRung(message.Event):
    """Of an aggregate that no view shows."""

    type = "muster.bell.rung.v1"


def test_an_aggregate_without_a_view_passes_by_and_sagas_that_listen_hear_of_it() -> None:
    views, heard = Views([0]), list[str]()
    views.shards.listen(lambda _partition, _token, changed: heard.extend(changed.streams))
    rung = recorded(registered("a"))._replace(stream="bell/noon", event=BellRung())
    views.apply(0, [(rung, None)], cursor(0))
    assert views.cursors[0].position == 0
    assert heard == ["bell/noon"]


def test_a_saga_whose_tasks_are_about_no_shard_is_shown_and_wants_nothing_of_data_nodes() -> None:
    machine, views = Restarts(), Views([0], definitions=table(RESTART))
    stream = machine.restart()
    views.apply(0, machine.folded, machine.partition.cursor)
    assert views.shards.migrations[stream,].step == machine.saga(stream).step == "fetch"
    assert views.shards.tasks == {}
