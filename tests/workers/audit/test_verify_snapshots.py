"""Snapshots compared with the log: those that controllers make agree with it, and whatever is changed in one is found."""

import asyncio
import json
import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from cramjam import zstd
from eventsourcing.persistence import StoredEvent

from infra.kafka.engine import open_kafka
from infra.log.codec import CloudEventMapper
from infra.log.engine import Engine
from infra.log.snapshot import PartitionSnapshot
from infra.sqlite.engine import open_embedded
from infra.sqlite.log import LogRecorder
from muster.cli import main
from tests.servers import SharedKafka
from tests.workers.http.cluster import MOVE, ended, join, move, served, until
from tests.workers.http.conftest import INSTANCE, Api, controller
from workers.audit.verify_snapshots import SnapshotReport, verify_snapshots

Chunks = list[dict[str, Any]]
Forge = Callable[[PartitionSnapshot, Chunks], PartitionSnapshot | None]
GOLDEN = Path(__file__).parents[2] / "golden" / "first_release" / "data"
CHECK = {"kind": "ttl", "ttl_seconds": 600, "name": "beat"}


async def used(api: Api) -> None:
    """Something of everything that a snapshot holds."""
    for number in range(3):
        await api.register(f"i{number}", tags=["blue"], checks=[CHECK], metadata={"a": "b"})
    await api.register("a")
    await api.put(f"{INSTANCE}/maintenance", {"reason": "disk"})
    await api.delete(INSTANCE)
    await api.put("/v1/services/orders/instances/i1?holder=h1", {"address": "10.0.0.8", "port": 80})
    await api.put("/v1/services/orders/instances/i0/health", {"status": "healthy", "check": "beat"})
    await api.put("/v1/services/orders/instances/i2/drain", {"reason": "leaves"})
    await served(api)
    await move(api)
    await until(api, ended, MOVE, working=True)
    await join(api, "n4")
    assert (await api.delete("/v1/nodes/n4?force=true")).status == 200


def read_only(data: Path) -> AbstractAsyncContextManager[Engine]:
    return open_embedded(data, read_only=True, alone=True)


async def verified(engine: Engine) -> list[SnapshotReport]:
    return await verify_snapshots(list(engine.logs.values()), engine.snapshots, CloudEventMapper())


async def of_folder(data: Path) -> list[SnapshotReport]:
    async with read_only(data) as engine:
        return await verified(engine)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A folder with two snapshots, between which the log goes on."""
    async with controller(tmp_path / "data") as api:
        await used(api)
    async with controller(tmp_path / "data") as api:
        await api.register("later")
    return tmp_path / "data"


async def forged(engine: Engine, forge: Forge) -> None:
    """The newest snapshot of partition 0, changed and hashed anew."""
    snapshot = (await engine.snapshots.kept(0))[0]
    chunks = [orjson.loads(bytes(zstd.decompress(chunk))) for chunk in snapshot.chunks]
    changed = forge(snapshot, chunks)
    packed = [bytes(zstd.compress(orjson.dumps(chunk), 1)) for chunk in chunks]
    await engine.snapshots.save(0, changed or replace(snapshot, chunks=packed))


def rows(chunks: Chunks, kind: str) -> list[Any]:
    """The rows of the first chunk of the kind."""
    return next(chunk["rows"] for chunk in chunks if chunk["kind"] == kind)  # type: ignore[no-any-return]


async def test_what_controllers_have_made_agrees_with_the_log(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with controller(data, partitions=3) as api:
        await used(api)
    # Of starts that record nothing but their terms, too.
    for number in range(3):
        async with controller(data) as api:
            if number == 1:
                await api.register("later")
        found = await of_folder(data)
        assert {report.partition for report in found} == {0, 1, 2}
        assert [report for report in found if report.differences or not report.compared] == []
    assert len(found) == 6


async def test_so_do_those_of_a_log_that_the_first_release_has_begun(tmp_path: Path) -> None:
    data = Path(shutil.copytree(GOLDEN, tmp_path / "data"))
    assert not any(report.compared for report in await of_folder(data))
    async with controller(data) as api:
        await api.register("later")
    found = [report for report in await of_folder(data) if report.compared]
    assert [(report.partition, report.differences) for report in found] == [(0, ()), (1, ())]


async def test_a_log_without_snapshots_is_not_folded_and_no_file_is_made(data: Path) -> None:
    (data / "snapshots.sqlite").unlink()
    assert await of_folder(data) == []
    assert not (data / "snapshots.sqlite").exists()


def address(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    rows(chunks, "instances")[0]["spec"]["address"] = "6.6.6.6"


def one_more(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    found = rows(chunks, "instances")
    found.append({**found[0], "id": "forged"})


def twice(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    found = rows(chunks, "instances")
    found.append({**found[0], "port": 1})


def one_less(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    rows(chunks, "instances").pop()


def version(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    rows(chunks, "versions")[0][1] += 1


def holder(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    next(row for row in rows(chunks, "names") if row[3] is None)[2] = "h2"


def mark(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    next(row for row in rows(chunks, "names") if row[3] is not None)[3]["maintenance"] = None


def history(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    rows(chunks, "history")[0][3].pop()


def an_id(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    found = rows(chunks, "ids")
    found.append(["forged", found[0][1]])


def answer(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    found = rows(chunks, "ids")
    found[0][1] = "00" + found[0][1][2:]


def counts(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    rows(chunks, "services")[0]["healthy"] += 1


def owner(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    state = next(state for stream, state in rows(chunks, "states") if stream == "keyspace/users")
    next(shard for number, shard in state["shards"] if number == 1)["owner"] = "n3"


def migration(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    rows(chunks, "migrations")[0]["paused"] = True


def no_rows(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    rows(chunks, "instances")[0].pop("spec")


def unknown(snapshot: PartitionSnapshot, chunks: Chunks) -> None:
    chunks.append({"kind": "rows", "rows": ["nobody", []]})


def head(snapshot: PartitionSnapshot, chunks: Chunks) -> PartitionSnapshot:
    return replace(snapshot, cursor=snapshot.cursor._replace(head=bytes(32)))


def term(snapshot: PartitionSnapshot, chunks: Chunks) -> PartitionSnapshot:
    return replace(snapshot, cursor=snapshot.cursor._replace(term=7))


def beyond(snapshot: PartitionSnapshot, chunks: Chunks) -> PartitionSnapshot:
    return replace(snapshot, cursor=snapshot.cursor._replace(position=999_999))


def earlier(snapshot: PartitionSnapshot, chunks: Chunks) -> PartitionSnapshot:
    return replace(snapshot, cursor=snapshot.cursor._replace(position=snapshot.cursor.position - 1))


def within(snapshot: PartitionSnapshot, chunks: Chunks) -> PartitionSnapshot:
    # The registration of the holder is recorded behind the end of the one before it, in one batch.
    return replace(snapshot, cursor=snapshot.cursor._replace(position=7, head_position=7))


def terms(snapshot: PartitionSnapshot, chunks: Chunks) -> PartitionSnapshot:
    return replace(snapshot, facts={**snapshot.facts, "terms": [[0, 1, "aaaaaaaa"]]})


def instant(snapshot: PartitionSnapshot, chunks: Chunks) -> PartitionSnapshot:
    return replace(snapshot, facts={**snapshot.facts, "last_at": "2099-01-01T00:00:00+00:00"})


def voids(snapshot: PartitionSnapshot, chunks: Chunks) -> PartitionSnapshot:
    return replace(snapshot, facts={**snapshot.facts, "voids": 3})


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (address, "instances orders/i0 is otherwise by the log (spec.address)"),
        (one_more, "instances orders/forged is not in the log up to there"),
        (twice, "instances orders/i0 is not in the log up to there"),
        (one_less, "instances orders/later is missing"),
        (version, "versions service/orders is otherwise by the log (all of it)"),
        (holder, "holders service/orders/i1 is otherwise by the log (all of it)"),
        (mark, "marks service/orders/a is otherwise by the log (maintenance)"),
        (history, "history orders/i0 is otherwise by the log (positions)"),
        (an_id, "ids forged is not in the log up to there"),
        (answer, "is otherwise by the log (all of it)"),
        (counts, "services orders is otherwise by the log (healthy)"),
        (owner, "states keyspace/users is otherwise by the log (shards)"),
        (migration, "migrations keyspace/users/migration/1 is otherwise by the log (paused)"),
        (no_rows, "it cannot be read: KeyError"),
        (unknown, "it cannot be read: KeyError"),
        (head, "its cursor is not that of the log there"),
        (term, "its cursor is not that of the log there"),
        (beyond, "the log ends at"),
        (earlier, "its cursor is not that of the log there"),
        (within, "it is of the middle of a batch"),
        (terms, "other terms than the log has"),
        (instant, "another newest instant than the log has"),
        (voids, "another number of void records than the log has"),
    ],
)
async def test_whatever_is_changed_in_a_snapshot_is_found_though_its_hashes_fit(
    data: Path, forge: Forge, said: str
) -> None:
    async with open_embedded(data) as engine:
        await forged(engine, forge)
    found = await of_folder(data)
    assert any(said in difference for report in found for difference in report.differences), found


async def test_the_older_generation_is_compared_too_and_one_that_is_true_is_left_in_peace(data: Path) -> None:
    async with open_embedded(data) as engine:
        true = (await engine.snapshots.kept(0))[0]
        await forged(engine, address)
        await engine.snapshots.save(0, true)
    found = await of_folder(data)
    assert sorted(bool(report.differences) for report in found) == [False, True]


async def test_one_that_was_taken_among_void_records_agrees(data: Path) -> None:
    async with open_embedded(data) as engine:
        snapshot = (await engine.snapshots.kept(0))[0]
        end = snapshot.cursor.position
        with closing(LogRecorder(data / "log.sqlite")) as recorder:
            foreign = [StoredEvent("muster.events/0", end + number, "raw", b"foreign") for number in (1, 2)]
            recorder.insert_events(foreign)
        facts = {**snapshot.facts, "voids": 1}
        cursor = snapshot.cursor._replace(position=end + 1)
        await engine.snapshots.save(0, replace(snapshot, cursor=cursor, facts=facts))
    assert [(report.position, report.differences) for report in await of_folder(data)] == [(end, ()), (end + 1, ())]


async def test_one_of_another_version_is_left_aside_as_at_a_start(data: Path) -> None:
    async with open_embedded(data) as engine:
        await forged(engine, lambda snapshot, chunks: replace(snapshot, revision="0:other"))
    assert [report.compared for report in await of_folder(data)] == [False, True]


async def test_the_command_names_the_snapshot_and_the_row_and_ends_as_over_damage(data: Path) -> None:
    def muster(*words: str) -> Any:
        return CliRunner().invoke(main, ["verify", "--data", str(data), *words])

    sound = await asyncio.to_thread(muster)
    assert sound.exit_code == 0, sound.output
    assert "2 snapshots agree with it" in sound.stdout
    async with open_embedded(data) as engine:
        await forged(engine, address)
    told = await asyncio.to_thread(muster)
    assert told.exit_code == 1
    assert "Corrupt: snapshot of partition 0 at position" in told.stderr
    assert "instances orders/i0 is otherwise by the log (spec.address)" in told.stderr
    assert "6.6.6.6" not in told.output
    document = json.loads((await asyncio.to_thread(muster, "--json")).stdout)
    assert (document["ok"], document["verdict"].split(":")[0]) == (False, "Not sound")
    assert [bool(one["differences"]) for one in document["snapshots"]] in ([True, False], [False, True], [True])


@pytest.mark.kafka
async def test_so_it_is_on_kafka(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix = f"t{secrets.token_hex(4)}"
    for _ in range(2):
        async with controller(tmp_path, kafka=kafka.bootstrap, prefix=prefix, partitions=1) as api:
            async with asyncio.timeout(60):
                while (await api.get("/readyz")).status != 200:  # noqa: ASYNC110 it has no event here
                    await asyncio.sleep(0.05)
            await used(api) if not (await api.get("/v1/services")).body["items"] else await api.register("later")
    async with open_kafka(kafka.bootstrap, partitions=1, prefix=prefix, create=False) as engine:
        found = await verified(engine)
        assert [(report.compared, report.differences) for report in found] == [(True, ())] * 2
        await forged(engine, address)
        found = await verified(engine)
        (untrue,) = [report for report in found if report.differences]
        assert untrue.differences == ("instances orders/i0 is otherwise by the log (spec.address)",)
