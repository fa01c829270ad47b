"""The newest events of all partitions, between times, by who and of what; and names that nobody knows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings
from muster import Client
from muster.wire.error import InstanceNotFound, InvalidCommand, KeyspaceNotFound, ServiceNotFound
from muster.wire.registry.answers import Event, EventPage
from workers.controller.process import running

PARTITIONS = 4


@asynccontextmanager
async def client_of(folder: Path, **options: Any) -> AsyncIterator[Client]:
    settings = Settings(data=folder, http="127.0.0.1:0", partitions=PARTITIONS)
    async with running(settings) as found, Client(found.url, actor="ops", **options) as client:
        yield client


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with client_of(tmp_path) as found:
        yield found


async def registered(client: Client, count: int) -> list[str]:
    """So many instances, each of a service of its own, one after the other."""
    names = [f"s{number}" for number in range(count)]
    for name in names:
        await client.register(name, f"{name}-1", "10.0.0.1", 80)
    return names


def streams(page: EventPage) -> list[str]:
    return [event.stream.removeprefix("service/") for event in page.items]


async def test_the_newest_of_all_partitions_come_last(client: Client):
    names = await registered(client, 20)
    page = await client.newest_events(limit=12)
    assert streams(page) == names[-12:]
    assert {event.partition for event in page.items} == set(range(PARTITIONS))
    assert [event.at for event in page.items] == sorted(event.at for event in page.items)
    # Page by page backwards, and behind the newest one what has come since.
    earlier = await client.events(before=page.before, limit=100)
    assert (streams(earlier), earlier.before) == (names[:8], None)
    assert (await client.events(behind=page.behind)).items == ()
    await client.register("late", "late-1", "10.0.0.1", 80)
    assert streams(await client.events(behind=page.behind)) == ["late"]


async def test_between_times(client: Client):
    await registered(client, 3)
    since = datetime.now(UTC)
    await client.register("mid", "mid-1", "10.0.0.1", 80)
    until = (await client.newest_events(stream="service/mid")).items[0].at
    await registered(client, 6)
    await client.register("late", "late-1", "10.0.0.1", 80)
    assert streams(await client.newest_events(since=since, until=until)) == ["mid"]
    assert streams(await client.newest_events(since=since))[0] == "mid"
    assert "late" not in streams(await client.newest_events(until=until))
    assert (await client.newest_events(until=datetime(2020, 1, 1, tzinfo=UTC))).items == ()
    # Of one partition, as of all.
    assert streams(await client.events(stream="service/mid", since=since, until=until)) == ["mid"]


async def test_by_who_of_what_and_by_a_short_name(client: Client):
    await registered(client, 5)
    async with Client(client.url, actor="ann") as ann:
        await ann.drain("s3", "s3-1")
    assert [event.type for event in (await client.newest_events(actor="ann")).items] == [
        "muster.instance.drain_started.v1"
    ]
    assert streams(await client.newest_events(instance="s3-1")) == ["s3", "s3"]
    for name in ("registered", "instance.registered", "muster.instance.registered", "muster.instance.registered.v1"):
        assert streams(await client.newest_events(type=name)) == [f"s{number}" for number in range(5)]
    # A short name may be that of two: both are shown.
    assert {event.type for event in (await client.newest_events(type="drain_started")).items} == {
        "muster.instance.drain_started.v1"
    }


async def test_something_rare_is_found_however_far_back_it_is(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workers.http.audit.events.scanned_records_max", 8)
    await client.register("rare", "rare-1", "10.0.0.1", 80)
    await client.drain("rare", "rare-1")
    await registered(client, 30)
    assert (await client.events(newest=True, type="drain_started")).items == ()
    assert streams(await client.newest_events(type="drain_started")) == ["rare"]
    assert len((await client.newest_events(type="registered", limit=31)).items) == 31


async def test_names_that_nobody_knows_are_refused_with_those_known(client: Client):
    await registered(client, 2)
    with pytest.raises(InvalidCommand, match=r"'foo'.*instance\.health_changed.*shard\.moved"):
        await client.newest_events(type="foo")
    with pytest.raises(InvalidCommand, match="'s0' is no stream; streams are service/<name>"):
        await client.newest_events(stream="s0")
    with pytest.raises(InvalidCommand, match="no stream"):
        await client.newest_events(stream="keyspace/k/migrations/1")
    with pytest.raises(ServiceNotFound, match="'s7'; known: s0, s1"):
        await client.newest_events(stream="service/s7")
    with pytest.raises(KeyspaceNotFound, match="there is none"):
        await client.newest_events(stream="keyspace/k")
    with pytest.raises(InstanceNotFound, match="'x'; known: s0-1"):
        await client.newest_events(stream="service/s0", instance="x")
    assert (await client.newest_events(stream="cluster")).items == ()


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"behind": "0:1", "newest": True}, "behind"),
        ({"newest": True, "after": 3}, "after"),
        ({"behind": "9:1"}, "behind"),
        ({"before": "x"}, "before"),
        ({"partition": 9, "newest": True}, "partition"),
        ({"since": datetime(2026, 1, 2, tzinfo=UTC), "until": datetime(2026, 1, 1, tzinfo=UTC)}, "until"),
        ({"since": datetime(2026, 1, 2)}, "since"),  # noqa: DTZ001 that is the point
        ({"actor": ""}, "actor"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(client: Client, asked: Any, field: str):
    with pytest.raises(InvalidCommand) as refused:
        await client.events(**asked)
    assert refused.value.context["field"] == field


async def test_followers_see_what_comes_over_a_restart_of_the_controller(tmp_path: Path):
    seen: list[Event] = []
    came = asyncio.Event()
    port = 0

    async def follow(client: Client) -> None:
        async for event in client.follow_events(limit=2):
            seen.append(event)
            came.set()

    async def until(count: int) -> None:
        async with asyncio.timeout(20):
            while len(seen) < count:
                came.clear()
                await came.wait()

    async with running(Settings(data=tmp_path, http="127.0.0.1:0", partitions=PARTITIONS)) as first:
        port = int(first.url.rpartition(":")[2])
        async with Client(first.url) as writer:
            names = await registered(writer, 4)
        reader = await Client(first.url, timeout_seconds=0.5).__aenter__()
        following = asyncio.create_task(follow(reader))
        await until(2)
    try:
        async with running(Settings(data=tmp_path, http=f"127.0.0.1:{port}", partitions=PARTITIONS)) as again:
            async with Client(again.url) as writer:
                await writer.register("late", "late-1", "10.0.0.1", 80)
            await until(3)
            assert [event.stream for event in seen] == [*(f"service/{name}" for name in names[-2:]), "service/late"]
    finally:
        following.cancel()
        await asyncio.wait([following])
        await reader.__aexit__(None)
