"""A projection that nothing but its definition knows is kept in memory, and in snapshots."""

from dataclasses import dataclass, replace

import pytest

from domain.message import Recorded
from domain.registry.instance import InstanceDeregistered, InstanceRegistered
from domain.registry.service import DeregisterInstance
from infra.log.port import START
from muster.wire.stream import name_of
from projections.catalogue import PROJECTIONS
from projections.projection import Projection
from projections.shards import SHARDS
from tests.sample import envelope, recorded, register, registered
from tests.workers.views.test_snapshotter import Kept, Memory
from workers.views.views import Views


@dataclass(frozen=True)
class ArrivalsRow:
    """How often instances have come and gone, and who came last."""

    came: int
    went: int
    last: tuple[str, ...]


def arrivals(row: ArrivalsRow | None, recorded: Recorded) -> ArrivalsRow:
    row = row or ArrivalsRow(0, 0, ())
    event = recorded.event
    if isinstance(event, InstanceRegistered):
        assert event.instance != "impossible", "this one cannot be folded"
        return replace(row, came=row.came + 1, last=(*row.last, event.instance)[-2:])
    return replace(row, went=row.went + 1)


ARRIVALS: Projection[ArrivalsRow] = Projection(
    name="arrivals",
    revision=1,
    row=ArrivalsRow,
    key=("service",),
    events=frozenset((InstanceRegistered, InstanceDeregistered)),
    key_of=lambda recorded: (name_of(recorded.stream),),
    fold=arrivals,
)


@pytest.fixture
def kept() -> Kept:
    kept = Kept(Memory(), (*PROJECTIONS, ARRIVALS))
    kept.group(register("a", "1"), register("b", "2"), register("c", "3", service="users"), offset=0)
    kept.group(envelope("4", DeregisterInstance(instance="a")), offset=3)
    return kept


def test_a_new_projection_is_folded_without_more_code(kept: Kept) -> None:
    assert kept.views.rows(ARRIVALS) == {
        ("orders",): ArrivalsRow(2, 1, ("a", "b")),
        ("users",): ArrivalsRow(1, 0, ("c",)),
    }


async def test_a_snapshot_keeps_it(kept: Kept) -> None:
    await kept.snapshotter.take()
    kept.group(register("d", "5"), offset=4)
    found, _, views = await kept.restored()
    assert found
    assert views.rows(ARRIVALS)["orders",] == ArrivalsRow(3, 1, ("b", "d"))
    assert dict(views.rows(ARRIVALS)) == dict(kept.views.rows(ARRIVALS))


async def test_a_row_that_cannot_be_folded_stands_still_and_is_not_kept_for_the_truth(kept: Kept) -> None:
    kept.group(register("impossible", "5"), register("e", "6"), offset=4)
    assert kept.views.rows(ARRIVALS)["orders",] == ArrivalsRow(2, 1, ("a", "b"))
    assert kept.views.parked["arrivals", ("orders",)].reason.startswith("this one cannot be folded")
    await kept.snapshotter.take()
    assert kept.store.snapshot is None


def test_what_is_skimmed_is_folded_too(kept: Kept) -> None:
    views = Views([0], kept.projections)
    events = [recorded(registered(name), position, position) for position, name in enumerate("ab")]
    views.skim(0, [(event, None) for event in events], START)
    assert views.rows(ARRIVALS) == {("orders",): ArrivalsRow(2, 0, ("a", "b"))}


def test_a_projection_that_is_not_in_memory_has_no_rows_there(kept: Kept) -> None:
    with pytest.raises(KeyError):
        kept.views.rows(SHARDS)
