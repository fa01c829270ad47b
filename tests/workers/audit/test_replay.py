"""Replay to a point, in memory: what readers saw at that moment, by whole batches."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from domain.registry.instance import InstanceDeregistered, InstanceDrainStarted
from infra.log.port import START
from infra.log.recorder import RecorderLog
from muster.wire.error import Corrupt, InvalidCommand
from projections.catalogue import PROJECTIONS
from tests.sample import NOON, registered
from tests.servers import run
from tests.workers.writer.history import ALL_HISTORIES, MAPPER, History, Told, batches
from workers.audit.replay import Replayed, replay
from workers.machine.partition import Partition
from workers.views.views import Views

ORDERS = "service/orders"


async def some_history() -> History:
    """Positions: 0 term, 1 a, 2-3 b and c, 4 a drains, 5 a leaves."""
    history = History()
    await history.add((ORDERS, registered("a")))
    await history.add((ORDERS, registered("b", incarnation=1)), (ORDERS, registered("c", incarnation=2)))
    await history.add((ORDERS, InstanceDrainStarted(instance="a")))
    await history.add((ORDERS, InstanceDeregistered(instance="a", incarnation=0, cause="requested", health="healthy")))
    return history


async def names_at(**point: Any) -> set[str]:
    found = await replay([(await some_history()).log], MAPPER, **point)
    return {instance for _, instance in found.rows["instances"]}


async def test_all_of_the_log() -> None:
    assert await names_at() == {"b", "c"}


@pytest.mark.parametrize(
    ("position", "names"), [(0, set()), (1, {"a"}), (2, {"a"}), (3, {"a", "b", "c"}), (5, {"b", "c"}), (99, {"b", "c"})]
)
async def test_a_position_ends_the_replay_at_a_whole_batch(position: int, names: set[str]) -> None:
    assert await names_at(to_position=position) == names
    assert await names_at(to_position={0: position}) == names


@pytest.mark.parametrize(("seconds", "names"), [(0.5, set()), (1, {"a"}), (2.5, {"a"}), (3, {"a", "b", "c"})])
async def test_a_time_ends_the_replay_at_a_whole_batch(seconds: float, names: set[str]) -> None:
    assert await names_at(to_time=NOON + timedelta(seconds=seconds)) == names


async def test_one_projection_alone() -> None:
    services = PROJECTIONS[:1]
    found = await replay([(await some_history()).log], MAPPER, projections=services)
    assert found.rows.keys() == {"services"}
    assert found.rows["services"][("orders",)].healthy == 2


async def test_the_result_says_how_far_it_went() -> None:
    history = await some_history()
    found = await replay([history.log], MAPPER)
    assert (found.cursors, found.events, found.last_at) == ({0: history.cursor}, 5, NOON + timedelta(seconds=5))


async def test_damage_ends_a_replay_only_if_it_lies_before_the_point() -> None:
    history = await some_history()
    damaged = history.with_record(4, history.value(4).replace(b"ann", b"eve"))
    assert isinstance(await replay([damaged], MAPPER, to_position=2), Replayed)
    with pytest.raises(Corrupt):
        await replay([damaged], MAPPER)


async def test_an_event_that_cannot_be_folded_parks_its_key_only() -> None:
    history = await some_history()
    await history.add((ORDERS, registered("b", incarnation=5)), (ORDERS, registered("d", incarnation=6)))
    found = await replay([history.log], MAPPER)
    assert [(parked.key, parked.position) for parked in found.parked["instances"]] == [(("orders", "b"), 6)]
    assert ("orders", "d") in found.rows["instances"]


async def test_a_point_that_is_none_is_refused() -> None:
    log = (await some_history()).log
    other = RecorderLog(History().recorder, 1)
    with pytest.raises(InvalidCommand, match="several partitions"):
        await replay([log, other], MAPPER, to_position=3)
    with pytest.raises(InvalidCommand, match="no partition 7"):
        await replay([log], MAPPER, to_position={7: 3})
    with pytest.raises(InvalidCommand, match="offset"):
        await replay([log], MAPPER, to_time=datetime(2026, 1, 1))  # noqa: DTZ001


async def test_a_partition_that_the_token_does_not_name_stays_empty() -> None:
    log = (await some_history()).log
    other = RecorderLog(History().recorder, 1)
    found = await replay([log, other], MAPPER, to_position={0: 1})
    assert found.cursors[1] == START


async def test_progress_is_told() -> None:
    history = History()
    for number in range(15):
        await history.add(*[(ORDERS, registered(f"i{number}-{k}", incarnation=100 * number + k)) for k in range(100)])
    told: list[tuple[int, int, int]] = []
    await replay([history.log], MAPPER, progress=lambda *done: told.append(done))
    assert told == [(0, 1000, 1000)]


@settings(max_examples=80, deadline=None)
@given(ALL_HISTORIES)
def test_a_replay_gives_what_the_views_show(told: list[list[Told]]) -> None:
    async def check() -> None:
        history = History()
        for batch in told:
            await history.add(*batch)
        views, partition = Views([0]), Partition(0, MAPPER)
        for read in await batches(history.log):
            views.apply(0, partition.fold(read), read.cursor)
            then = await replay([history.log], MAPPER, to_position=read.cursor.position)
            assert then.rows == rows_of(views)

    run(check())


def rows_of(views: Views) -> dict[str, dict[Any, Any]]:
    return {one.name: dict(views.rows(one)) if one.in_memory else {} for one in PROJECTIONS}
