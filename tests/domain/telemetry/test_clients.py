"""What clients say they saw, in a partition of heartbeats: no sign of life, and the word of suspects for as long as they are."""

from domain.registry.doubt.event import InstanceChecksBelieved, InstanceChecksDisputed
from domain.registry.instance import Instance, InstanceDeregistered, InstanceHealthChanged
from domain.registry.status import Doubt
from muster.wire.telemetry.loads import ClientsWord, SeenInstance
from tests.domain.telemetry.listening import Listening
from tests.sample import NOON, spec


def listening(**fields: object) -> Listening:
    return Listening().tick().registered("a", "b", **{"lease_seconds": 10.0, **fields}).opened()


def disputed(name: str) -> InstanceChecksDisputed:
    return InstanceChecksDisputed(instance=name, seconds=30.0, fallen=3, healthy=0)


def word(name: str, clients: int, failing: int = 0, answering: int = 0) -> ClientsWord:
    return ClientsWord(instance=name, incarnation=0, clients=clients, failing=failing, answering=answering)


def test_who_is_called_and_answers_is_silent_all_the_same():
    told = listening()
    for _ in range(15):
        told.observed("h1", "a", "b").passes(1, "b")
    assert told.silent == {"a": 10.0}


def test_a_service_whose_heartbeats_are_direct_has_a_row_by_its_clients():
    (row,) = listening(heartbeats="direct").observed("h1", "a", "b").partition.loads()
    assert (row.instances, row.heard, row.observers, row.attempts_per_second) == (0, 0, 1, 4.0)


def test_what_is_said_of_a_service_that_is_not_there_is_passed_over():
    told = listening().observed("h1", "a", service="users")
    assert list(told.partition.loads()) == []


def test_each_instance_is_told_as_clients_saw_it_beside_what_it_says_of_itself():
    told = listening().beats("a", in_flight=12)
    told.observed("h1", "a", failing=5).observed("h2", "a", "b")
    (seen,) = told.partition.instances()
    assert seen.service == "orders"
    assert seen.items == (
        SeenInstance(
            instance="a",
            incarnation=0,
            observers=2,
            attempts_per_second=4.0,
            failure_share=0.25,
            latency_seconds=0.02,
            in_flight=12,
        ),
        SeenInstance(
            instance="b", incarnation=0, observers=1, attempts_per_second=2.0, failure_share=0.0, latency_seconds=0.02
        ),
    )
    # Of a service in one of five turns, which is always the same.
    assert [len(list(told.partition.instances(turn, 5))) for turn in range(5)].count(1) == 1
    assert list(told.passes(11).partition.instances()) == []


def test_what_an_incarnation_says_of_itself_is_not_told_of_the_one_before():
    told = listening().observed("h1", "a").registered("a", incarnation=1).beats("a", incarnation=1, in_flight=12)
    (seen,) = told.partition.instances()
    assert [(one.incarnation, one.in_flight) for one in seen.items] == [(0, None)]


def test_of_suspects_it_is_told_what_clients_have_seen_since_the_doubt_began():
    told = listening().observed("h1", "a", "b").observed("h2", "a", failing=5).passes(1)
    assert told.suspected == ()
    told.event(disputed("a")).event(disputed("b")).passes(1)
    assert set(told.suspected) == {word("a", 2), word("b", 1)}
    told.observed("h1", "a", "b").observed("h2", "a", "b", failing=6).observed("h3", "b", failing=3)
    # Who fails stands first: there the word is wanted.
    assert told.suspected == (word("b", 3, failing=2, answering=1), word("a", 2, failing=1, answering=1))


def test_a_doubt_ends_with_the_events_that_end_it():
    told = listening().observed("h1", "a", "b").event(disputed("a")).event(disputed("b"))
    assert {one.instance for one in told.suspected} == {"a", "b"}
    told.event(InstanceChecksBelieved(instance="a", because="time"))
    assert {one.instance for one in told.suspected} == {"b"}
    told.event(InstanceHealthChanged(instance="b", was="unhealthy", to="healthy"))
    assert told.suspected == ()
    told.event(disputed("a")).event(
        InstanceDeregistered(instance="a", incarnation=0, cause="requested", health="unhealthy")
    )
    assert told.suspected == ()


def test_a_suspect_of_a_snapshot_is_one():
    suspect = Instance("a", "orders", spec(), 0, 1, "unhealthy", None, NOON, {}, NOON, 0, suspect=Doubt(NOON, 30.0))
    told = Listening().tick()
    told.partition.restore([suspect])
    told.opened().observed("h1", "a", failing=4)
    assert told.suspected == (word("a", 1, failing=1),)
