"""Who is alive and who should write what, as one controller sees it."""

from muster.wire.controllers import controllers_max
from workers.peers.members import Member, Members, settle_seconds, silent_seconds

ANNA, BERT, CARL = (Member(name, f"http://{name}") for name in ("anna", "bert", "carl"))
PARTITIONS = range(64)


def all_heard(self_: Member, *others: Member, now: float = 100.0) -> Members:
    members = Members(self_)
    for member in (self_, *others):
        members.heard(member, now, ready=True)
    return members


def owners(members: Members) -> list[Member | None]:
    return [members.owner(partition) for partition in PARTITIONS]


def test_nobody_owns_anything_before_a_ready_controller_is_heard() -> None:
    members = Members(ANNA)
    assert members.owner(0) is None
    members.heard(ANNA, 100.0, ready=False)
    assert members.owner(0) is None


def test_all_who_hear_the_same_agree() -> None:
    assert owners(all_heard(ANNA, BERT, CARL)) == owners(all_heard(CARL, ANNA, BERT))
    assert set(owners(all_heard(ANNA, BERT, CARL))) == {ANNA, BERT, CARL}


def test_when_one_leaves_only_its_partitions_move() -> None:
    members = all_heard(ANNA, BERT, CARL)
    before = owners(members)
    members.gone(BERT)
    assert all(now == was for now, was in zip(owners(members), before, strict=True) if was != BERT)
    assert BERT not in owners(members)


def test_a_silent_controller_loses_its_partitions_once_we_were_heard_without_it() -> None:
    members = all_heard(ANNA, BERT)
    members.heard(ANNA, 100.0 + silent_seconds + 0.01, ready=True)
    assert set(owners(members)) == {ANNA}


def test_while_nobody_is_heard_nobody_is_judged() -> None:
    members = all_heard(ANNA, BERT)
    before = owners(members)
    # The broker is away for a minute: no sign arrives, ours neither. Then all arrive at once.
    members.heard(BERT, 160.0, ready=True)
    assert owners(members) == before
    members.heard(ANNA, 160.0, ready=True)
    assert owners(members) == before


def test_who_still_reads_the_log_owns_nothing() -> None:
    members = all_heard(ANNA)
    members.heard(BERT, 100.0, ready=False)
    assert set(owners(members)) == {ANNA}
    members.heard(BERT, 100.0, ready=True)
    assert set(owners(members)) == {ANNA, BERT}


def test_we_are_settled_when_we_have_listened_long_enough() -> None:
    members = Members(ANNA)
    assert not members.settled(100.0)
    members.heard(ANNA, 100.0, ready=False)
    assert not members.settled(100.0 + settle_seconds / 2)
    assert members.settled(100.0 + settle_seconds)


def test_nothing_makes_us_forget_ourselves() -> None:
    members = all_heard(ANNA)
    members.gone(ANNA)
    assert set(owners(members)) == {ANNA}


def test_clients_are_told_of_the_live_ones_and_of_no_more_than_a_few() -> None:
    members = all_heard(ANNA, BERT)
    assert [(one.controller, one.url) for one in members.named()] == [("anna", "http://anna"), ("bert", "http://bert")]
    members.gone(BERT)
    assert [one.controller for one in members.named()] == ["anna"]
    crowd = [Member(f"m{number}", "http://m") for number in range(1_000)]
    assert len(all_heard(ANNA, *crowd).named()) == controllers_max
