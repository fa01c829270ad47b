"""`muster verify --moves`: the log's moves against their invariants."""

from datetime import UTC, datetime
from pathlib import Path

from domain.message import Event, Recorded, to_json
from domain.shards.shard import KeyspaceCreated, ShardMoved, ShardsAssigned
from infra.log.codec import CloudEventMapper, Draft
from infra.log.port import START
from infra.sqlite.engine import open_embedded
from tests.workers.sagas.participants import controller
from workers.audit.verify_moves import MovesReport, verify_moves


async def verified(data: Path) -> MovesReport:
    async with open_embedded(data, read_only=True) as engine:
        return await verify_moves(engine.logs.values(), CloudEventMapper())


async def test_a_log_of_completed_moves_breaks_nothing_and_owes_nothing(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        id_ = await those.move("users", 1, "n2")
        await those.until(lambda: those.saga(id_).ended)
    report = await verified(tmp_path)
    assert (report.breaches, report.owed) == ((), ())
    assert report.events > 20


async def test_a_move_under_way_is_owed_and_no_breach(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        those.silent = {"copy"}
        id_ = await those.move("users", 1, "n2")
        await those.until(lambda: those.saga(id_).step == "copy")
    report = await verified(tmp_path)
    assert report.breaches == ()
    assert report.owed == (f"I6 {id_} is at copy",)


async def test_a_shard_that_changed_its_owner_without_a_fence_is_a_breach_at_its_place(tmp_path: Path) -> None:
    moved = ShardMoved(shard=1, migration="keyspace/users/migration/1", epoch=2, owner="n2", was="n1")
    await record(
        tmp_path,
        KeyspaceCreated(shards=4, value_bytes_max=10, shard_bytes_max=100),
        ShardsAssigned(node="n1", shards=(0, 1, 2, 3)),
        moved,
    )
    report = await verified(tmp_path)
    assert any(
        "0@3 keyspace/users: I5 shard 1 changed its epoch without a fence" in breach for breach in report.breaches
    )


async def record(data: Path, *events: Event) -> None:
    """A log that holds these events of one keyspace, whatever the decider would say to them."""
    mapper, now = CloudEventMapper(), datetime.now(UTC)
    async with open_embedded(data) as engine:
        [log] = engine.logs.values()
        cursor = await log.claim("test", START)
        drafts = [
            Draft(
                Recorded(
                    0, index + 1, "keyspace/users", index, now, event, f"{index}:0", f"{index}", None, "test", None
                ),
                None,
                to_json(event),
            )
            for index, event in enumerate(events)
        ]
        stored, _ = mapper.seal(drafts, cursor, None)
        await log.append(stored)
