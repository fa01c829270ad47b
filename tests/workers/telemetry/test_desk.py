"""A worker without Kafka: a log and topics in memory, partitions that come and go, and a time that is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
from eventsourcing.popo import POPOApplicationRecorder

from infra.log.engine import Engine
from infra.log.recorder import RecorderLog
from infra.log.snapshot import PartitionSnapshot
from infra.telemetry.memory_topics import MemoryPast, MemoryTopics
from infra.telemetry.publisher import Outgoing
from muster.wire.registry.spec import Spec
from muster.wire.telemetry.heartbeats import Beat, encode
from muster.wire.telemetry.observations import Observation, Observations
from muster.wire.telemetry.observations import encode as encode_observations
from tests.workers.telemetry.fleet import register_all
from workers.telemetry import desk as desk_module
from workers.telemetry.desk import Desk

SPEC = Spec(address="10.0.0.7", port=80, lease_seconds=10.0, heartbeats="topic")
BEGAN_MS = 1_800_000_000_000


class NoSnapshots:
    """A log that is read from its beginning."""

    async def load(self, partition: int) -> PartitionSnapshot | None:
        return None

    async def save(self, partition: int, snapshot: PartitionSnapshot) -> None:
        raise AssertionError("a worker saves none")

    async def kept(self, partition: int) -> list[PartitionSnapshot]:
        return []


class World:
    """Two instances of a service, `a` and `b`, in the one partition of a log."""

    def __init__(self) -> None:
        self.now_ms = BEGAN_MS
        self.topics = MemoryTopics(lambda: self.now_ms)
        self.log = RecorderLog(POPOApplicationRecorder(), 0)
        self.engine = Engine("memory", {0: self.log}, NoSnapshots())

    def desk(self, name: str = "w") -> Desk:
        return Desk(name, self.engine, self.topics, self._reader, "t")

    def _reader(self, partition: int, since_ms: int, first: int) -> MemoryPast:
        return self.topics.reader("t.heartbeats", partition, since_ms, first)

    async def beats(self, *names: str) -> None:
        value = encode("h", "orders", [Beat(name, "ab".index(name), 3, 10.0, 0.0, 0.5) for name in names])
        await self.put(b"service/orders", value)

    async def tick(self) -> None:
        await self.put(b"tick", orjson.dumps({"tick": "w", "at": 0.0}))

    async def put(self, key: bytes, value: bytes) -> None:
        await self.topics.publish([Outgoing("t.heartbeats", 0, key, value)], 1.0)

    async def passes(self, seconds: float, *beating: str) -> None:
        """So much time, with a tick and the beats of these each half second."""
        for _ in range(round(seconds * 2)):
            self.now_ms += 500
            if beating:
                await self.beats(*beating)
            await self.tick()

    def stream(self, desk: Desk, since: int = 0) -> None:
        """What Faust's stream brings: the records from this offset on."""
        for record in self.topics.of("t.heartbeats", 0)[since:]:
            desk.hear(0, *record)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [orjson.loads(record.value) for record in self.topics.of("t.commands", 0)]

    @property
    def silent(self) -> list[str]:
        return [entry["instance"] for command in self.told for entry in command["data"]["silent"]]


@asynccontextmanager
async def working(world: World, desk: Desk) -> AsyncIterator[Desk]:
    running = asyncio.create_task(desk.run())
    desk.assigned([0])
    try:
        async with asyncio.timeout(10):
            while desk.held[0].is_reading:  # noqa: ASYNC110 what is asked sets no event
                await asyncio.sleep(0.01)
        yield desk
    finally:
        desk.assigned(())
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def settled(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 what is asked sets no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def world() -> World:
    made = World()
    await register_all(made.log, {"orders": ["a", "b"]}, lambda _number: SPEC)
    return made


async def test_who_falls_silent_is_told_to_the_writer_in_one_command(world: World) -> None:
    async with working(world, world.desk()) as desk:
        await world.passes(12)
        world.stream(desk)
        await settled(lambda: world.told)
        (command,) = world.told
    assert (command["type"], command["stream"]) == ("muster.instance.report_silence.v1", "service/orders")
    assert command["actor"] == "telemetry/w"
    assert world.silent == ["a", "b"]


async def test_a_successor_finds_the_silence_that_began_before_it(world: World) -> None:
    await world.beats("a")
    await world.passes(9, "b")
    async with working(world, world.desk()) as desk:
        await world.passes(2, "b")
        world.stream(desk)
        await settled(lambda: world.told)
    assert world.silent == ["a"]


async def test_two_workers_say_the_same_under_the_same_id(world: World) -> None:
    await world.beats("a", "b")
    await world.passes(2, "b")
    async with working(world, world.desk("one")) as one:
        await world.passes(10, "b")
        world.stream(one)
        await settled(lambda: world.told)
    async with working(world, world.desk("two")) as two:
        await world.passes(1, "b")
        world.stream(two)
        await settled(lambda: len(world.told) == 2)
    first, second = world.told
    assert first["actor"] != second["actor"]
    assert {**first, "actor": ""} == {**second, "actor": ""}


async def test_a_stream_that_begins_far_behind_is_no_news(world: World) -> None:
    await world.passes(30, "a", "b")
    async with working(world, world.desk()) as desk:
        world.stream(desk)
        await world.passes(3, "a", "b")
        world.stream(desk)
        await asyncio.sleep(0.1)
    assert world.told == []


async def test_a_balancing_that_gives_the_partition_back_loses_nothing(world: World) -> None:
    async with working(world, world.desk()) as desk:
        await world.passes(4, "a", "b")
        world.stream(desk)
        await world.tick()
        await settled(lambda: not desk.held[0]._merge.reading)  # The stream goes on alone.
        desk.assigned([0])
        await world.passes(8, "b")  # Nobody brings these: another worker had the partition, and committed them.
        begun = len(world.topics.of("t.heartbeats", 0))
        await world.passes(3, "b")
        world.stream(desk, begun)
        await settled(lambda: world.told)
    assert world.silent == ["a"]


async def test_what_cannot_be_read_is_counted_and_ends_nothing(world: World) -> None:
    async with working(world, world.desk()) as desk:
        for value in (b"", b"{", b'{"agent": "h", "service": "orders", "items": [["a", -1]]}'):
            await world.put(b"service/orders", value)
        await world.put(b"tick", b"[]")
        await world.passes(12, "b")
        world.stream(desk)
        await settled(lambda: world.told)
        assert desk.held[0].refused == 4
    assert world.silent == ["a"]


async def test_a_partition_that_is_ours_no_more_is_not_heard(world: World) -> None:
    async with working(world, world.desk()) as desk:
        desk.assigned(())
        await world.passes(30)
        world.stream(desk)
        await asyncio.sleep(0.1)
    assert world.told == []


async def test_loads_and_the_worker_itself_are_told_once_a_second(world: World) -> None:
    async with working(world, world.desk()) as desk:
        await world.passes(3, "a", "b")
        world.stream(desk)
        rows: dict[str, Any] = {}

        def are_told() -> bool:
            rows.update({one.key.decode(): orjson.loads(one.value) for one in world.topics.of("t.loads", 0)})
            return rows.get("service/orders", {}).get("heard") == 2

        await settled(are_told)
        await desk.leave()
    load, worker = rows["service/orders"], rows["telemetry/w"]
    assert (load["in_flight"], load["per_second"], load["utilisation"]) == (6.0, 20.0, 0.5)
    assert (worker["partitions"], worker["instances"], worker["state"]) == ([0], 2, "running")
    (*_, last) = [orjson.loads(one.value) for one in world.topics.of("t.loads", 0) if one.key == b"telemetry/w"]
    assert last["state"] == "leaving"


def saw(observer: str, host: str, failing: int, *names: str) -> bytes:
    """Ten calls of each, by an observer; so many in a row have failed up to now."""
    seen = [Observation(name, "ab".index(name), 10, min(failing, 10), failing, 0.02) for name in names]
    return encode_observations(Observations(observer, "orders", 5.0, seen, host))


async def test_what_clients_saw_renews_no_lease(world: World) -> None:
    async with working(world, world.desk()) as desk:
        await world.beats("a", "b")
        for _ in range(12):
            # Its clients are answered all the time, and it says nothing itself.
            await world.put(b"service/orders", saw("web-1", "h1", 0, "a", "b"))
            await world.passes(1, "b")
        world.stream(desk)
        await settled(lambda: world.told)
    assert world.silent == ["a"]


async def test_the_row_of_a_service_says_what_its_clients_saw(world: World) -> None:
    async with working(world, world.desk()) as desk:
        await world.passes(1)
        await world.put(b"service/orders", saw("web-1", "h1", 5, "a", "b"))
        await world.put(b"service/orders", saw("web-2", "h1", 0, "a", "b"))
        world.stream(desk)
        await settled(lambda: told_of_orders(world))
        row = told_of_orders(world)[-1]
        assert desk.held[0].refused == 0
    # Nobody has sent a heartbeat, and there is a row all the same.
    assert (row["instances"], row["heard"]) == (2, 0)
    assert (row["observers"], row["attempts_per_second"], row["failure_share"]) == (2, 8.0, 0.25)
    assert row["latency_seconds"] == 0.02
    assert row["suspected"] == []


async def test_each_instance_has_its_turn_to_be_told_as_its_clients_saw_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "rows_seconds", 0.02)
    async with working(world, world.desk()) as desk:
        await world.passes(1, "b")
        await world.put(b"service/orders", saw("web-1", "h1", 5, "a", "b"))
        await world.put(b"service/orders", saw("web-2", "h1", 0, "a"))
        world.stream(desk)
        await settled(lambda: told_of_orders(world, b"instances/orders"))
        before = len(told_of_orders(world))
        await settled(lambda: len(told_of_orders(world)) >= before + 10)
        turns = len(told_of_orders(world, b"instances/orders"))
    row = told_of_orders(world, b"instances/orders")[0]
    about = [(one["instance"], one["observers"], one["failure_share"], one["in_flight"]) for one in row["items"]]
    assert about == [("b", 1, 0.5, 3), ("a", 2, 0.25, None)]
    # Once in five rounds, and not in each.
    assert 2 <= turns <= 4


def told_of_orders(world: World, key: bytes = b"service/orders") -> list[dict[str, Any]]:
    return [orjson.loads(one.value) for one in world.topics.of("t.loads", 0) if one.key == key]
