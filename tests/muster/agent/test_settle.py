"""What a node does to its copies when it compares them with the shard map."""

from typing import Literal

import pytest

from muster.agent.settle import Activate, Correction, Distrust, Drop, Fence, LocalShard, Retire, correction
from muster.wire.shards.answers import Shard
from muster.wire.shards.driver import Location, ShardId

USERS = ShardId("users", 0)
State = Literal["hidden", "serving", "fenced", "retired"]


def copy(state: State, epoch: int) -> LocalShard:
    return LocalShard(USERS, epoch, state)


MOVE = "keyspace/users/migration/1"


def mapped(owner: str | None, epoch: int, *, fenced: bool = False, migration: str | None = MOVE) -> Shard:
    return Shard(
        keyspace="users",
        shard=0,
        owner=owner,
        address=f"{owner}:1",
        epoch=epoch,
        status="active" if migration is None else "migrating",
        fenced=fenced,
        migration=migration,
    )


@pytest.mark.parametrize(
    ("local", "shard", "wanted"),
    [
        pytest.param(copy("serving", 3), mapped("n1", 3), None, id="it serves what it owns"),
        pytest.param(copy("serving", 3), mapped("n1", 3, fenced=True), Fence(3), id="a fence was missed"),
        pytest.param(copy("serving", 3), mapped("n2", 4), Retire(4, Location("n2", "n2:1")), id="a commit was missed"),
        pytest.param(copy("serving", 3), mapped("n1", 4), Activate(4), id="a fence and its reclaim were missed"),
        pytest.param(copy("serving", 3), mapped("n1", 4, fenced=True), Fence(4), id="and the next fence, too"),
        pytest.param(copy("fenced", 3), mapped("n1", 3, fenced=True), None, id="the fence stands"),
        pytest.param(copy("fenced", 3), mapped("n1", 4), Activate(4), id="a reclaim was missed"),
        pytest.param(copy("fenced", 3), mapped("n1", 4, fenced=True), Fence(4), id="a reclaim and a fence were missed"),
        pytest.param(copy("fenced", 3), mapped("n2", 4), Retire(4, Location("n2", "n2:1")), id="committed when fenced"),
        pytest.param(copy("hidden", 4), mapped("n1", 4), Activate(4), id="the commit to it was missed"),
        pytest.param(copy("hidden", 4), mapped("n2", 3), None, id="a copy under way stays hidden"),
        pytest.param(copy("hidden", 4), mapped("n2", 3, fenced=True), None, id="also while its source is fenced"),
        pytest.param(copy("hidden", 4), mapped("n2", 4), None, id="also when the source was given the epoch"),
        pytest.param(copy("hidden", 4), mapped("n2", 3, migration=None), Drop(4), id="a copy whose move has ended"),
        pytest.param(copy("hidden", 4), mapped("n2", 6, migration=None), Drop(4), id="a copy of a move long ago"),
        pytest.param(copy("hidden", 4), mapped(None, 0, migration=None), None, id="a copy of a shard without an owner"),
        pytest.param(copy("hidden", 4), None, None, id="a hidden copy of nothing does no harm"),
        pytest.param(copy("retired", 3), mapped("n1", 4), None, id="what was given up stays given up"),
        pytest.param(copy("serving", 3), None, Distrust(3), id="a keyspace that is unknown"),
        pytest.param(copy("serving", 3), mapped(None, 0), Distrust(3), id="a shard that nobody owns"),
        pytest.param(copy("serving", 3), mapped("n1", 2), Distrust(3), id="an epoch that has not begun"),
        pytest.param(copy("serving", 3), mapped("n2", 3), Distrust(3), id="two owners of one epoch"),
    ],
)
def test_what_a_copy_needs(local: LocalShard, shard: Shard | None, wanted: Correction | None):
    assert correction(local, "n1", shard) == wanted
