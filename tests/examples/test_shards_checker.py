"""The checker bites: a small real history passes, and fails as soon as one thing is not as its clients were told."""

import argparse
import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import lmdb
import orjson
import pytest

from examples.shards.checker import check
from examples.shards.journal import Journal, read_journals
from infra.shards.record import ShardRecord, ShardWrite, decode_record, encode_record, shard_key
from infra.shards.store import ShardStore
from muster import Client, Keyspace
from muster.wire.shards.driver import Location, ShardId, ShardLimits
from muster.wire.shards.key import shard_of
from tests.muster.controller import controller
from tests.muster.data_node import data_node

KEYSPACE, SHARDS, NODES = "users", 2, ("n1", "n2", "n3")
MOVED, STAYED = ShardId(KEYSPACE, 0), ShardId(KEYSPACE, 1)
KEYS: Final = {shard: next(f"k{n}" for n in range(99) if shard_of(f"k{n}", SHARDS) == shard) for shard in range(SHARDS)}


async def live(folder: Path) -> None:
    """A controller, two nodes and a client that writes; shard 0 moves from n1 to n2 amid its writes."""
    (folder / "journals").mkdir()
    journal = Journal(folder / "journals" / "a.jsonl")
    async with (
        controller(folder / "data") as url,
        data_node("n1", folder / "n1", url),
        data_node("n2", folder / "n2", url),
        Client(url) as client,
    ):
        await until(lambda: client.shards.nodes(), lambda page: len(page.items) == 2)
        await client.shards.create_keyspace(KEYSPACE, SHARDS, nodes=["n1"])
        await until(lambda: client.shards.keyspace(KEYSPACE), lambda found: found.active == SHARDS)
        async with Keyspace(KEYSPACE, url) as keyspace:
            await write_all(keyspace, journal, (1, 2))
            moved = await client.shards.move(KEYSPACE, 0, "n2", soak_seconds=0.0, cleanup_seconds=0.0)
            assert moved.migration is not None
            await until(lambda: client.shards.migration(str(moved.migration)), lambda found: found.ended)
            await write_all(keyspace, journal, (3, 4))
    with closing(ShardStore(folder / "n3")):
        pass
    journal.close()


async def write_all(keyspace: Keyspace, journal: Journal, numbers: tuple[int, ...]) -> None:
    """Each key gets each number, and is read."""
    for number in numbers:
        for key in KEYS.values():
            id_, began = f"{key}-{number}", time.monotonic()
            journal.note("write", id_, key, number, began)
            done = await keyspace.put(key, b"%d" % number, write_id=id_)
            journal.note("done", id_, time.monotonic(), done.shard, done.position, done.epoch)
            began, value = time.monotonic(), await keyspace.get(key)
            journal.note("read", key, began, time.monotonic(), int(value or b"0"))


async def until(ask: Callable[[], Any], holds: Callable[[Any], bool]) -> None:
    """Ask until it holds."""
    async with asyncio.timeout(20):
        while not holds(await ask()):  # noqa: ASYNC110 what is asked is elsewhere, and sets no event
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lived")
    asyncio.run(live(folder))
    return folder


@dataclass
class Remains:
    """What is left of the history, to be tampered with."""

    folder: Path

    @contextmanager
    def store(self, node: str, **options: Any) -> Iterator[ShardStore]:
        """A node's store."""
        with closing(ShardStore(self.folder / node, **options)) as store:
            yield store

    def write(self, node: str, shard: ShardId, key: str, value: bytes | None, write_id: str = "") -> None:
        """Write to a stopped node, past all clients: its own books stay in order."""
        with self.store(node) as store:
            [written] = store.write([ShardWrite(shard, 0, key, value, write_id)])
            assert not isinstance(written, Exception), written

    def rewrite(self, node: str, shard: ShardId, change: Callable[[ShardRecord], ShardRecord]) -> None:
        """Change a shard's record in the node's file."""
        with lmdb.open(str(self.folder / node), max_dbs=8) as env:
            shards = env.open_db(b"shards")
            with env.begin(write=True) as txn:
                record = txn.get(shard_key(shard), db=shards)
                assert record is not None, f"{node} does not know {shard}"
                txn.put(shard_key(shard), encode_record(change(decode_record(record))), db=shards)

    def note(self, *line: Any) -> None:
        """Add a line to a journal."""
        with (self.folder / "journals" / "a.jsonl").open("ab") as journal:
            journal.write(orjson.dumps(line) + b"\n")

    def edit(self, change: Callable[[list[Any]], list[Any] | None]) -> None:
        """Change the lines of the journal; None: there was no such line."""
        file = self.folder / "journals" / "a.jsonl"
        lines = [change(orjson.loads(line)) for line in file.read_bytes().splitlines()]
        file.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines if line is not None))

    def breaches(self) -> list[str]:
        """What the checker holds to be wrong."""
        chosen = argparse.Namespace(
            journals=self.folder / "journals",
            keyspace=KEYSPACE,
            node=[f"{node}={self.folder / node}" for node in NODES],
            data=self.folder / "data",
            kafka=None,
        )
        return asyncio.run(check(chosen)).breaches


@pytest.fixture
def remains(lived: Path, tmp_path: Path) -> Remains:
    return Remains(Path(shutil.copytree(lived, tmp_path / "remains")))


def test_a_history_without_a_breach_passes(remains: Remains) -> None:
    assert remains.breaches() == []
    entries = read_journals([remains.folder / "journals" / "a.jsonl"])
    assert {operation.epoch for operation in entries.operations} == {1, 2}


@pytest.mark.parametrize(("node", "shard"), [("n2", MOVED), ("n1", STAYED)])
class TestAValue:
    def test_that_was_acknowledged_and_is_gone_is_missed(self, remains: Remains, node: str, shard: ShardId) -> None:
        key = KEYS[shard.shard]
        remains.write(node, shard, key, None)
        assert remains.breaches() == [f"I3 {key} holds None, but 4 by {key}-4 was the last that is certain"]

    def test_that_was_overwritten_and_is_back_is_noticed(self, remains: Remains, node: str, shard: ShardId) -> None:
        key = KEYS[shard.shard]
        remains.write(node, shard, key, b"3")
        assert remains.breaches() == [f"I3 {key} holds 3, but 4 by {key}-4 was the last that is certain"]

    def test_that_nobody_wrote_is_noticed(self, remains: Remains, node: str, shard: ShardId) -> None:
        key = next(f"x{n}" for n in range(99) if shard_of(f"x{n}", SHARDS) == shard.shard)
        remains.write(node, shard, key, b"1")
        assert remains.breaches() == [f"I3 nobody wrote ['{key}']"]


def test_a_value_may_be_a_later_one_whose_outcome_nobody_was_told(remains: Remains) -> None:
    key = KEYS[1]
    remains.note("write", "late", key, 5, time.monotonic())
    assert remains.breaches() == []
    remains.write("n1", STAYED, key, b"5", "late")
    assert remains.breaches() == []


def test_a_value_that_was_read_must_not_vanish_though_it_was_never_acknowledged(remains: Remains) -> None:
    key, now = KEYS[1], time.monotonic()
    remains.note("write", "late", key, 5, now)
    remains.note("read", key, now, now + 1, 5)
    assert remains.breaches() == [f"I3 {key} holds 4, but 5 by late was the last that is certain"]
    remains.write("n1", STAYED, key, b"5", "late")
    remains.note("read", key, now + 2, now + 3, 4)
    assert remains.breaches() == [f"I3 {key}: a read saw 4, of ['5']"]


def test_a_read_that_saw_less_than_was_acknowledged_is_noticed(remains: Remains) -> None:
    remains.note("read", KEYS[0], time.monotonic(), time.monotonic(), 3)
    assert remains.breaches() == [f"I3 {KEYS[0]}: a read saw 3, of ['4']"]


def test_a_read_that_saw_what_was_written_later_is_noticed(remains: Remains) -> None:
    remains.edit(lambda line: [*line[:4], 4] if line[0] == "read" and line[1] == KEYS[0] and line[4] == 2 else line)
    assert f"I3 {KEYS[0]}: a read saw 4, of ['2']" in remains.breaches()


def test_a_copy_that_is_left_on_a_stranger_is_noticed(remains: Remains) -> None:
    with remains.store("n3") as store:
        store.prepare(STAYED, 2)
    assert remains.breaches() == ["I11 users/1 lies about on n3: hidden"]


def test_a_copy_of_a_shard_that_there_is_not_is_noticed(remains: Remains) -> None:
    with remains.store("n3") as store:
        store.open(ShardId(KEYSPACE, 7), 1, ShardLimits())
        store.open(ShardId("others", 0), 1, ShardLimits())
    assert remains.breaches() == [
        "I11 others/0 lies about on ['n3'], but there is no such shard",
        "I11 users/7 lies about on ['n3'], but there is no such shard",
    ]


def test_two_nodes_that_serve_the_same_shard_are_noticed(remains: Remains) -> None:
    with remains.store("n3") as store:
        store.open(MOVED, 2, ShardLimits())
    assert "I4 users/0 is served by n3 with epoch 2, which was never given it" in remains.breaches()


def test_a_source_that_would_serve_still_is_noticed(remains: Remains) -> None:
    with remains.store("n3") as store:
        store.open(MOVED, 1, ShardLimits())
    assert "I2 users/0 would still be served by n3 with epoch 1" in remains.breaches()


def test_a_shard_that_its_owner_does_not_serve_is_noticed(remains: Remains) -> None:
    with remains.store("n2") as store:
        store.retire(MOVED, 3, Location("n1", "127.0.0.1:1"))
    found = remains.breaches()
    assert "I1 users/0 is n2's with epoch 2, but served by nobody" in found
    assert f"I3 {KEYS[0]} holds None, but 4 by {KEYS[0]}-4 was the last that is certain" in found


def test_a_write_that_was_applied_twice_is_noticed(remains: Remains) -> None:
    key = KEYS[1]
    with remains.store("n1", ids_max=1) as store:
        store.write([ShardWrite(STAYED, 0, key, b"3"), ShardWrite(STAYED, 0, key, b"3", "other")])
        store.write([ShardWrite(STAYED, 0, key, b"4", f"{key}-4")])
    assert [breach for breach in remains.breaches() if f"{key}-4" in breach] == [
        f"I14 users/1 on n1 applied writes twice: ['{key}-4']",
        f"I14 {key}-4 was acknowledged as change 4, but counts as 7",
    ]


def test_a_write_that_was_applied_again_behind_a_move_is_noticed(remains: Remains) -> None:
    """There the change log begins anew: it is the answer to the first one that tells."""
    id_ = f"{KEYS[0]}-2"
    remains.edit(lambda line: [*line[:4], 1, line[5]] if line[:2] == ["done", id_] else line)
    assert f"I14 {id_} was acknowledged as change 1, but counts as 2" in remains.breaches()


def test_a_write_whose_id_was_lost_is_noticed(remains: Remains) -> None:
    key = KEYS[1]
    remains.edit(lambda line: [line[0], f"{key}-9", *line[2:]] if line[1] == f"{key}-2" else line)
    assert remains.breaches() == [f"I14 n1 has forgotten {key}-9: it would be applied twice"]


def test_an_acknowledgement_that_its_shard_did_not_take_along_is_noticed(remains: Remains) -> None:
    id_ = f"{KEYS[0]}-3"
    remains.edit(lambda line: [*line[:5], 1] if line[:2] == ["done", id_] else line)
    assert remains.breaches() == [
        f"I2 change 3 of shard 0 ({id_}) was acknowledged with epoch 1, which ended with change 2"
    ]


def test_a_key_in_the_wrong_shard_is_noticed(remains: Remains) -> None:
    remains.write("n2", MOVED, KEYS[1], b"4")
    assert remains.breaches() == [f"users/0 on n2 holds keys of other shards: ['{KEYS[1]}']"]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: replace(record, digest=record.digest + 1),
        lambda record: replace(record, records=record.records + 1),
        lambda record: replace(record, bytes=record.bytes - 1),
    ],
    ids=["digest", "records", "bytes"],
)
def test_books_that_are_not_those_of_the_pairs_are_noticed(
    remains: Remains, change: Callable[[ShardRecord], ShardRecord]
) -> None:
    remains.rewrite("n1", STAYED, change)
    assert remains.breaches() == ["users/1 on n1: its digest and counts are not those of its pairs"]
