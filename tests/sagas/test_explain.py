"""What a saga waits for, in a sentence: of each state, as an operator reads it."""

from dataclasses import replace
from typing import Any

import pytest
from immutables import Map

from domain.saga import Saga
from domain.shards import cluster as c
from domain.shards.cluster import Cluster
from domain.shards.node import MoveLimitsChanged, NodeJoined, NodeLost, NodeRemoved, SlotsGranted, SlotsQueued
from domain.stage import Blocked, Compensating, Completed, Forward, Retrying, StepUnderWay, Trying
from sagas.engine.explain import waits_for
from sagas.shard_migration import SHARD_MIGRATION
from tests.given import after

ID = "keyspace/users/migration/7"
DATA = {
    "keyspace": "users",
    "shard": 0,
    "epoch": 1,
    "source": "n1",
    "target": "n2",
    "limits": {},
    "bytes_per_second": None,
    "hold": False,
    "not_before": None,
    "soak_seconds": 1.0,
    "cleanup_seconds": 2.0,
}


def saga(step: str, standing: Any = None, *, paused: bool = False, data: Any = DATA, fence: Any = None) -> Saga:
    """A migration on its way, at this step."""
    at = StepUnderWay(step, standing=standing or Trying())
    results = Map({"fence": fence}) if fence else Map()
    return Saga(ID, 3, "shard_migration", 1, data, results, Forward(at), paused)


def joined(*names: str) -> list[Any]:
    facts = {"zone": "", "capacity": 1.0, "lease_seconds": 5.0, "process": "p", "store": "s"}
    return [NodeJoined(node=name, address="127.0.0.1:7", **facts) for name in names]


def cluster(*events: Any) -> Cluster:
    """The cluster of n1, n2 and n3 after these events."""
    return after(c, c.INITIAL, *joined("n1", "n2", "n3"), *events)


def queued(number: int, source: str = "n1", target: str = "n2") -> SlotsQueued:
    return SlotsQueued(saga=f"keyspace/users/migration/{number}", source=source, target=target)


def granted(number: int, source: str = "n1", target: str = "n2") -> list[Any]:
    grant = SlotsGranted(saga=f"keyspace/users/migration/{number}", source=source, target=target)
    return [queued(number, source, target), grant]


def told(found: Saga, *events: Any, **facts: Any) -> str | None:
    return waits_for(found, SHARD_MIGRATION, lambda _: cluster(*events), **facts)


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ("prepare", "n2 to prepare"),
        ("copy", "n2 to copy"),
        ("catch_up", "n2 to catch up"),
        ("verify", "n2 to verify"),
        ("fence", "n1 to fence"),
        ("activate", "n2 to activate"),
        ("publish", "n1 to retire"),
        ("clean", "n1 to drop"),
        ("discard", "n2 to drop"),
        ("reactivate", "n1 to activate"),
        ("release", "the cluster to answer to release"),
    ],
)
def test_a_step_waits_for_who_has_to_do_it(step: str, sentence: str) -> None:
    assert told(saga(step)) == sentence


def test_a_drain_waits_for_the_target_not_for_who_assists() -> None:
    silent = saga("drain", fence={"silent": "n1"})
    assert told(silent) == "n2 to drain"


def test_an_ended_saga_waits_for_nothing() -> None:
    assert told(replace(saga("complete"), stage=Completed())) is None


def test_a_blocked_saga_waits_for_an_operator_who_learns_what_is_allowed() -> None:
    stands = StepUnderWay("discard", standing=Blocked("the disk is gone"))
    found = replace(saga("copy"), stage=Compensating(stands, ("discard",), "aborted"))
    assert told(found) == "an operator: blocked: the disk is gone; allowed: retry, skip"


def test_a_paused_saga_waits_for_an_operator_and_says_who_has_paused_it() -> None:
    assert told(saga("copy", paused=True), paused_by="ann") == "an operator: paused by ann"
    assert told(saga("copy", paused=True)) == "an operator: paused"
    assert told(saga("copy", Retrying("away", 1.5), paused=True), paused_by="ann") == "an operator: paused by ann"


def test_between_attempts_a_saga_says_when_the_next_one_comes() -> None:
    found = saga("copy", Retrying("away", 1.5))
    assert told(found, waited_seconds=0.3) == "the next attempt, in about 1.2 s"
    assert told(found, waited_seconds=9.0) == "the next attempt, in about 0.0 s"


def test_a_node_whose_lease_is_over_is_named_with_its_role() -> None:
    lost = [NodeLost(node=name, incarnation=0, lease_seconds=5.0) for name in ("n1", "n2")]
    assert told(saga("fence"), lost[0]) == "its source n1, whose lease is over"
    assert told(saga("copy"), lost[0]) == "its source n1, whose lease is over"
    assert told(saga("copy"), lost[1]) == "its target n2, whose lease is over"
    assert told(saga("prepare"), lost[0]) == "n2 to prepare"


def test_a_node_that_is_not_there_is_told() -> None:
    assert told(saga("activate"), NodeRemoved(node="n2")) == "its target n2, which has been removed"
    elsewhere = saga("activate", data={**DATA, "target": "n9"})
    assert told(elsewhere) == "its target n9, which has not joined"


def test_a_gate_waits_for_an_operator_or_for_its_window() -> None:
    assert told(saga("gate", data={**DATA, "hold": True})) == "an operator: it is held for an operator to resume"
    later = saga("gate", data={**DATA, "not_before": "2026-02-03T04:00:00+00:00"})
    assert told(later) == "2026-02-03T04:00:00+00:00: the maintenance window has not begun"


def test_a_soak_says_how_much_of_it_is_left() -> None:
    assert told(saga("soak"), waited_seconds=0.5) == "2.5 s more to pass: the source's copy is kept for a while"


def test_before_it_is_queued_it_waits_for_the_cluster() -> None:
    assert told(saga("reserve")) == "the cluster to queue it for slots"


def test_a_full_cluster_is_told_with_who_takes_its_slots() -> None:
    limits = MoveLimitsChanged(node_moves_max=9, cluster_moves_max=6)
    taken = [event for number in (1, 2, 3, 4, 5, 6) for event in granted(number)]
    sentence = told(saga("reserve"), limits, *taken, queued(8), queued(9), queued(7))
    by = ", ".join(f"keyspace/users/migration/{number}" for number in (1, 2, 3, 4))
    assert sentence == f"a slot: 6 of 6 are taken, by {by} and 2 more, 2 before it"


def test_a_busy_node_is_told_with_the_move_that_it_is_part_of() -> None:
    sentence = told(saga("reserve"), *granted(3, "n3", "n2"), queued(7))
    assert sentence == "a slot of n2: 1 of 1 is taken, by keyspace/users/migration/3, 0 before it"


def test_one_who_waits_only_for_those_before_it_says_how_many_they_are() -> None:
    assert told(saga("reserve"), queued(5), queued(7)) == "a slot: 1 before it"
