"""What operators set for the clients of a service, and how a client hears of it."""

from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from muster import Appeared, Client, Snapshot, TrafficSet, VersionConflict
from muster.client.watch import TrafficFollower
from muster.wire.registry.traffic import DEFAULTS
from tests.muster.controller import controller, free_port


async def test_it_is_set_shown_and_taken_back(tmp_path: Path):
    async with controller(tmp_path) as url, Client(url, actor="ops") as client:
        assert await client.traffic.show("users") is None
        written = await client.traffic.set("users", policy="round_robin", retry_share=0.0, reason="alike")
        found = await client.traffic.show("users")
        assert found is not None
        assert (found.given, found.actor, found.reason) == (
            {"policy": "round_robin", "retry_share": 0.0},
            "ops",
            "alike",
        )
        await client.traffic.set("users", default=("retry_share",), expected_version=written.version)
        assert [row.given for row in (await client.traffic.all()).items] == [{"policy": "round_robin"}]
        with pytest.raises(VersionConflict):
            await client.traffic.set("users", limit=False, expected_version=written.version)


async def test_a_watch_tells_it_behind_the_snapshot_and_at_each_change(tmp_path: Path):
    async with controller(tmp_path) as url, Client(url) as client:
        await client.traffic.set("users", policy="random")
        async with aclosing(client.watch("users", traffic=True)) as changes:
            assert isinstance(await anext(changes), Snapshot)
            first = await anext(changes)
            assert isinstance(first, TrafficSet)
            assert first.traffic.policy == "random"
            await client.traffic.set("users", limit=False)
            second = await anext(changes)
            assert isinstance(second, TrafficSet)
            assert second.traffic.given == {"policy": "random", "limit": False}
            assert second.token == client.token


async def test_a_watch_that_does_not_ask_hears_nothing_of_it(tmp_path: Path):
    async with controller(tmp_path) as url, Client(url) as client:
        await client.traffic.set("users", policy="random")
        async with aclosing(client.watch("users")) as changes:
            assert isinstance(await anext(changes), Snapshot)
            await client.traffic.set("users", limit=False)
            await client.register("users", "a", "10.0.0.7", 80)
            assert isinstance(await anext(changes), Appeared)


def test_what_is_told_again_after_a_lost_connection_is_no_change():
    row = b'{"service":"users","policy":"random","since":"2026-01-02T12:00:00Z","actor":"ann","version":1}'
    follower = TrafficFollower()
    [first] = follower.take("traffic", row, "0:1")
    assert isinstance(first, TrafficSet)
    # A controller says nothing of a setting that is younger than itself: it is not set.
    assert first.traffic.in_force == replace(DEFAULTS, policy="random")
    assert list(follower.take("traffic", row, "0:1")) == []
    assert len(list(follower.take("traffic", row.replace(b"random", b"least_cost"), "0:2"))) == 1


def test_a_policy_that_only_newer_clients_know_is_not_set_and_the_rest_holds():
    row = b'{"service":"users","policy":"by_mood","eject_after":3,"since":"2026-01-02T12:00:00Z","actor":"ann","version":1}'
    [told] = TrafficFollower().take("traffic", row, "0:1")
    assert isinstance(told, TrafficSet)
    assert told.traffic.in_force == replace(DEFAULTS, eject_after=3)


async def test_what_was_set_in_a_log_that_is_gone_is_taken_back(tmp_path: Path):
    port = free_port()
    async with AsyncExitStack() as stack:
        async with controller(tmp_path / "lost", port) as url, Client(url) as writer:
            await writer.traffic.set("users", policy="random")
            client = await stack.enter_async_context(Client(url))
            changes = await stack.enter_async_context(aclosing(client.watch("users", traffic=True)))
            assert [type(await anext(changes)), type(await anext(changes))] == [Snapshot, TrafficSet]
        async with controller(tmp_path / "new", port):
            told = await anext(changes)
        assert isinstance(told, TrafficSet)
        assert (told.traffic.given, told.traffic.in_force, told.traffic.version) == ({}, DEFAULTS, 0)
