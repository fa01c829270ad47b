"""Signs of life that change nothing are answered without being decided: with the same answers, and renewing as much."""

from collections.abc import Callable, Sequence
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from domain.catalogue import Answer
from domain.groups import member as m
from domain.groups.commands import CreateGroup, Failover, NewMember
from domain.registry.service import Heartbeat, RegisterInstance, ReportHealth
from domain.shards.cluster import RenewNode
from domain.shards.node import JoinNode
from infra.log.codec import CloudEventMapper
from muster.wire.command import Command, Envelope
from muster.wire.registry.check import TtlCheck
from muster.wire.registry.spec import Spec
from muster.wire.route import partition_of
from tests.machine import Machine, statuses
from workers.machine.aggregate import Aggregates, AnyDecider, States
from workers.machine.partition import Partition

Given = tuple[str, Command]
"""A stream, and a command to it."""

_MEMBERS: Final = ("db1", "db2")
_GROUP, _SERVICE, _CLUSTER = "group/db", "service/orders", "cluster"


class Deciding(Aggregates):
    """Without the short way: every sign of life is decided."""

    def only_sign(self, _envelope: Envelope, _states: States) -> AnyDecider | None:
        return None


def begun(machine: Machine) -> Machine:
    """Two members of a group, of which the first leads with epoch 1; an instance with a ttl check and a lease; a node."""
    spec = Spec(address="10.0.0.7", port=80, lease_seconds=1.0, checks=(TtlCheck(ttl_seconds=0.6, name="ttl"),))
    members = tuple(NewMember(name, 2 - number) for number, name in enumerate(_MEMBERS))
    for number, (stream, command) in enumerate(
        [
            (_GROUP, CreateGroup(members=members)),
            *((_GROUP, m.JoinGroup(member=name, process=name)) for name in _MEMBERS),
            *(
                (_GROUP, m.ReportMember(member=name, incarnation=3 + at, outcome="ready"))
                for at, name in enumerate(_MEMBERS)
            ),
            (_SERVICE, RegisterInstance(instance="a", spec=spec, holder="h1")),
            (_CLUSTER, JoinNode(node="n1", process="p1", address="10.0.0.8:1", store="s1", lease_seconds=1.0)),
        ]
    ):
        assert machine.answer(Envelope(f"begin-{number}", stream, command)).error is None
    return machine


def led(machine: Machine) -> Machine:
    """And the first member serves."""
    assert (
        machine.answer(Envelope("serves", _GROUP, m.ReportServing(member="db1", incarnation=3, epoch=1))).error is None
    )
    return machine


_members = st.sampled_from([*_MEMBERS, "db9"])
_incarnations = st.sampled_from([3, 3, 4, 4, 0])
_said: Final = {"member": _members, "incarnation": _incarnations}
_epochs = st.sampled_from([None, None, 1, 1, 2])
_signs: Final = st.one_of(
    st.tuples(st.sampled_from([_GROUP, _GROUP, "group/none"]), st.builds(m.RenewMember, **_said, epoch=_epochs)),
    st.tuples(
        st.sampled_from([_SERVICE, _SERVICE, "service/none"]),
        st.builds(
            Heartbeat,
            instance=st.sampled_from(["a", "a", "b"]),
            incarnation=st.sampled_from([None, 0, 0, 7]),
            holder=st.sampled_from([None, "h1", "h1", "h2"]),
        ),
    ),
    st.tuples(
        st.just(_CLUSTER),
        st.builds(RenewNode, node=st.sampled_from(["n1", "n1", "n2"]), incarnation=st.sampled_from([0, 0, 5])),
    ),
)
_others: Final = st.one_of(
    st.tuples(
        st.just(_GROUP), st.builds(m.ReportMember, **_said, outcome=st.sampled_from(["ready", "failed", "left"]))
    ),
    st.tuples(st.just(_GROUP), st.builds(m.JoinGroup, member=_members, process=st.sampled_from([*_MEMBERS, "p9"]))),
    st.tuples(st.just(_GROUP), st.builds(m.ReportEnded, **_said, epoch=st.just(1), how=st.just("said"))),
    st.tuples(st.just(_GROUP), st.builds(m.ReportServing, **_said, epoch=st.just(1))),
    st.tuples(st.just(_GROUP), st.just(Failover(to="db2"))),
    st.tuples(
        st.just(_SERVICE),
        st.builds(
            ReportHealth, instance=st.just("a"), check=st.just("ttl"), status=st.sampled_from(["healthy", "unhealthy"])
        ),
    ),
)
_turns = st.lists(
    st.tuples(
        st.lists(st.one_of(_signs, _signs, _others), max_size=6), st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.1, 2.1])
    ),
    max_size=8,
)


@given(_turns, st.sampled_from([begun, lambda machine: led(begun(machine))]))
def test_a_sign_of_life_is_answered_as_if_it_had_been_decided(
    turns: Sequence[tuple[list[Given], float]], beginning: Callable[[Machine], Machine]
) -> None:
    short, long = beginning(Machine()), beginning(Machine(Deciding()))
    number = 0
    for given_now, seconds in turns:
        envelopes = [Envelope(f"c{number + at}", stream, command) for at, (stream, command) in enumerate(given_now)]
        number += len(envelopes)
        answers: list[list[Answer]] = [machine.group(*envelopes) for machine in (short, long)]
        assert answers[0] == answers[1]
        assert short.folded == long.folded
        # What each has renewed shows in what runs out, and when.
        for _ in range(round(seconds * 10)):
            assert short.passes(0.0) == long.passes(0.0)
    assert short.partition.streams == long.partition.streams
    assert short.log == long.log


def renewal(id_: str, member: str = "db1", incarnation: int = 3, epoch: int | None = 1) -> Envelope:
    return Envelope(id_, _GROUP, m.RenewMember(member=member, incarnation=incarnation, epoch=epoch))


def test_nothing_is_remembered_of_it_and_one_that_comes_twice_renews_twice() -> None:
    machine = led(begun(Machine()))
    known = len(machine.partition.ids)
    # The lease is of two seconds; without the second one of the same id it would be over at the end.
    machine.passes(1.2)
    assert statuses(machine.group(renewal("same"), renewal("again", "db2", 4, None))) == ["unchanged", "unchanged"]
    machine.passes(1.2)
    assert statuses(machine.group(renewal("same"), renewal("again", "db2", 4, None))) == ["unchanged", "unchanged"]
    machine.passes(1.2)
    assert machine.partition.streams[_GROUP].ownership.holder == "db1"
    assert len(machine.partition.ids) == known


def test_an_id_that_has_its_answer_keeps_it() -> None:
    machine = led(begun(Machine()))
    # Under these ids the one was refused, and the other was another command.
    [refused] = machine.group(renewal("r", epoch=2))
    again, other = machine.group(renewal("r", epoch=2), renewal("serves"))
    assert (refused.error or {})["name"] == "StaleEpoch"
    assert (again.duplicate, again.error) == (True, refused.error)
    assert (other.error or {})["name"] == "IdempotencyConflict"
    # And an id that is not free within its group.
    told = machine.group(renewal("twice", epoch=2), renewal("twice", epoch=2), renewal("twice"))
    assert statuses(told) == ["StaleEpoch", "StaleEpoch", "IdempotencyConflict"]


def test_who_expects_a_version_has_it_compared() -> None:
    machine = led(begun(Machine()))
    expecting = Envelope("e", _GROUP, m.RenewMember(member="db1", incarnation=3), expected_version=0)
    assert statuses(machine.group(expecting)) == ["VersionConflict"]


def test_a_primary_that_has_yet_to_serve_is_no_mere_sign_of_life() -> None:
    machine = begun(Machine())
    assert not machine.partition.is_only_sign(renewal("claim"))
    assert statuses(machine.group(renewal("claim"))) == ["unchanged"]
    assert machine.group(renewal("claim"))[0].duplicate


def test_nothing_is_renewed_before_the_log_has_acknowledged() -> None:
    machine = led(begun(Machine()))
    machine.passes(1.4)
    group = machine.step(renewal("1"))
    assert statuses(group.answers) == ["unchanged"]
    machine.partition.rollback(group)
    assert "PrimaryEnded" in [type(told.event).__name__ for told in machine.passes(0.7)]


def test_a_stream_that_should_live_elsewhere_is_heard_of_nowhere_else() -> None:
    machine = led(begun(Machine()))
    # As a log may have been left by a client with another hash, before that was refused.
    partitions = next(number for number in range(2, 99) if partition_of(_GROUP, number) != 0)
    machine.claims("w2", machine.follow(Partition(0, CloudEventMapper(), partitions=partitions)))
    assert statuses(machine.group(renewal("1"))) == ["WrongPartition"]


def test_another_holder_is_refused_also_of_an_instance_that_is_well() -> None:
    machine = begun(Machine())
    beats = [
        Envelope(f"{at}", _SERVICE, Heartbeat(instance="a", holder=who)) for at, who in enumerate(("h1", "h1", "h2"))
    ]
    assert statuses(machine.group(*beats)) == ["accepted", "unchanged", "StaleIncarnation"]
