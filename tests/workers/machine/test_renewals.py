"""Renewals of members of groups that come together: a list of them is what they are one after the other."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from domain.groups.commands import CreateGroup, Failover, NewMember
from domain.groups.member import JoinGroup, RenewMember, ReportMember
from muster.wire.command import Command, Envelope
from tests.machine import Machine, statuses

GROUP: Final = "group/db"
MEMBERS: Final = ("db1", "db2")


def to_group(id_: str, command: Command, stream: str = GROUP) -> Envelope:
    return Envelope(id_, stream, command)


def led() -> tuple[Machine, dict[str, int]]:
    """A group of two members that run, of which the first leads with epoch 1; and their incarnations."""
    machine, incarnations = Machine(), {}
    members = tuple(NewMember(name, 2 - number) for number, name in enumerate(MEMBERS))
    machine.group(to_group("create", CreateGroup(members=members)))
    for name in MEMBERS:
        joined = machine.answer(to_group(f"join-{name}", JoinGroup(member=name, process=name)))
        assert joined.incarnation is not None
        incarnations[name] = joined.incarnation
        ready = ReportMember(member=name, incarnation=joined.incarnation, outcome="ready")
        machine.group(to_group(f"ready-{name}", ready))
    machine.commit(machine.observe(GROUP, Failover(automatic=True)))
    assert machine.partition.streams[GROUP].ownership.holder == "db1"
    return machine, incarnations


said = st.tuples(
    st.sampled_from(["group/db", "group/none"]),
    st.sampled_from([*MEMBERS, "db9"]),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([None, None, 1, 1, 2]),
)
"""A group, a member, how far its incarnation is wrong, and an epoch."""


@given(st.lists(said, max_size=12), st.sampled_from([0.0, 1.0, 1.3]))
def test_a_list_of_renewals_is_what_they_are_one_after_the_other(
    said: list[tuple[str, str, int, int | None]], silent_seconds: float
) -> None:
    (together, incarnations), (apart, _) = led(), led()
    renewals = [
        to_group(
            f"renew-{number}",
            RenewMember(member=member, incarnation=incarnations.get(member, 0) + wrong, epoch=epoch),
            stream,
        )
        for number, (stream, member, wrong, epoch) in enumerate(said)
    ]
    for machine in (together, apart):
        machine.passes(silent_seconds)
    answers = together.group(*renewals)
    assert answers == [apart.answer(renewal) for renewal in renewals]
    assert together.partition.streams == apart.partition.streams
    # What each has renewed shows in when it runs out.
    for _ in range(25):
        assert together.passes(0.1) == apart.passes(0.1)


def test_one_that_is_refused_takes_nothing_from_those_beside_it() -> None:
    machine, incarnations = led()
    machine.passes(1.0)
    machine.group(
        to_group("1", RenewMember(member="db1", incarnation=incarnations["db1"], epoch=2)),
        to_group("2", RenewMember(member="db2", incarnation=incarnations["db2"])),
    )
    # Of the primary nothing was renewed; the standby was heard.
    [silent] = machine.passes(0.6)
    assert getattr(silent.event, "member", None) == "db1"


def test_a_member_that_was_silent_is_heard_again_in_a_list() -> None:
    machine, incarnations = led()
    machine.passes(1.6)
    lists = machine.group(
        *(
            to_group(name, RenewMember(member=name, incarnation=incarnation))
            for name, incarnation in incarnations.items()
        )
    )
    assert statuses(lists) == ["accepted", "accepted"]
    assert {member.status for member in machine.partition.streams[GROUP].members.values()} == {"recovering"}
