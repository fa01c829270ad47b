"""What data nodes tell of the loads of their shards, on its way."""

from typing import Any

import pytest

from muster.wire.error import InvalidCommand
from muster.wire.shards.driver import ShardId
from muster.wire.telemetry import shard_loads
from muster.wire.telemetry.shard_loads import (
    NodeLoads,
    ShardLoad,
    ShardLoadReport,
    ToldShard,
    decode,
    document_of,
    encode,
    judged,
    judged_report,
    key_of,
    told_of,
)
from tests.sample import NOON

ROW = NodeLoads(node="n1", keyspaces={"users": [ToldShard(0, 310.5, 12.0, 1 << 20), ToldShard(7)]}, at=NOON)


def test_a_row_comes_back_as_it_left() -> None:
    assert decode(encode(ROW)) == ROW
    assert key_of(ROW) == "shards/n1"
    assert encode(ROW) == (
        b'{"keyspaces":{"users":[[0,310.5,12.0,1048576],[7,null,null,null]]},"node":"n1","at":"2026-01-02T12:00:00+00:00"}'
    )


def test_a_row_is_the_loads_of_its_shards() -> None:
    first, second = ROW
    assert first == ShardLoad(
        keyspace="users", shard=0, node="n1", reads_per_second=310.5, writes_per_second=12.0, bytes=1 << 20, at=NOON
    )
    assert second == ShardLoad(keyspace="users", shard=7, node="n1", at=NOON)


def test_reports_are_told_by_keyspace_and_of_so_many_shards_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_loads, "node_shards_max", 2)
    report = ShardLoadReport(1.0, 2.0, 3)
    told = told_of({ShardId("users", 1): report, ShardId("users", 0): report, ShardId("orders", 4): report})
    assert told == {"orders": [ToldShard(4, 1.0, 2.0, 3)], "users": [ToldShard(0, 1.0, 2.0, 3)]}
    assert document_of(told) == {"keyspaces": {"orders": [[4, 1.0, 2.0, 3]], "users": [[0, 1.0, 2.0, 3]]}}


@pytest.mark.parametrize(
    ("told", "field"),
    [
        (None, "keyspaces"),
        ([], "keyspaces"),
        ({"": []}, "keyspaces"),
        ({"users": [[]]}, "keyspaces.users.0.0"),
        ({"users": [[0, "9"]]}, "keyspaces.users.0.1"),
        ({"users": [[0, float("nan")]]}, "keyspaces.users.0.1"),
        ({"users": [[0, 1, -1]]}, "keyspaces.users.0.2"),
        ({"users": [[0, 1, 1, 1.5]]}, "keyspaces.users.0.3"),
        ({"users": [[0, 1, 1, shard_loads.told_bytes_max + 1]]}, "keyspaces.users.0.3"),
        ({"users": [[65_536]]}, "keyspaces.users.0.0"),
        ({"users": [[0, 1, 1, 1, 1]]}, "keyspaces.users.0"),
    ],
)
def test_what_is_no_load_is_refused_with_its_place(told: Any, field: str) -> None:
    with pytest.raises(InvalidCommand) as refused:
        judged(told)
    assert str(refused.value.context["field"]).startswith(field)


def test_a_node_that_tells_of_too_many_shards_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_loads, "node_shards_max", 2)
    assert judged({"users": [[0], [1]]}) == {"users": [ToldShard(0), ToldShard(1)]}
    with pytest.raises(InvalidCommand, match="at most 2 shards, not 3"):
        judged({"users": [[0], [1]], "orders": [[0]]})


def test_a_store_may_say_less_and_nothing_else() -> None:
    assert judged_report((3, 4)) == ShardLoadReport(3.0, 4.0)
    assert judged_report(()) == ShardLoadReport()
    for wrong in (("many",), (1, 2, 3, 4), (-1.0,)):
        with pytest.raises(InvalidCommand):
            judged_report(wrong)


def test_bytes_that_are_no_row_are_refused() -> None:
    for wrong in (b"", b"{}", b'{"node":"n 1","keyspaces":{},"at":"2026-01-05T12:00:00Z"}'):
        with pytest.raises(InvalidCommand):
            decode(wrong)
