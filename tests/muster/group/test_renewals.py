"""Memberships of one process, which renew together, at a real controller."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest

from muster import Client, Membership
from muster.clock import elapsed_seconds
from muster.group import renewals
from muster.group.renewals import shared_renewals
from muster.group.words import Words
from muster.wire.error import GroupNotFound, StaleIncarnation
from tests.muster.controller import ControllerProcess, controller, free_port
from tests.muster.group.relay import relay
from tests.muster.group.test_membership import Group, Service, member, until

NAMES = ("db1", "db2", "db3")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Group]:
    async with controller(tmp_path / "log") as url, Client(url) as client:
        yield Group(url, client)


async def test_they_renew_in_one_request(here: Group) -> None:
    await here.create(*NAMES, lease_seconds=8.0)
    async with relay(here.url) as between, AsyncExitStack() as stack:
        for name in NAMES:
            await stack.enter_async_context(member(here, Service(), name, between.url))
        row = await here.until(lambda row: row.serving)
        between.asked.clear()
        await until(lambda: sum(path == "/v1/commands" for path in between.asked) >= 6)
        assert not [path for path in between.asked if path.endswith("/renew")]
        # Three members, each every half second: were each in a list of its own, there would be three times as many.
        began = elapsed_seconds()
        between.asked.clear()
        await until(lambda: len(between.asked) >= 6)
        assert elapsed_seconds() - began > 4 * row.heartbeat_seconds / 2


async def test_who_is_alone_renews_alone(here: Group) -> None:
    await here.create("db1", "db2", lease_seconds=8.0)
    async with relay(here.url) as between, member(here, Service(), "db1", between.url):
        async with member(here, Service(), "db2", between.url):
            await until(lambda: "/v1/commands" in between.asked)
        between.asked.clear()
        await until(lambda: sum(path.endswith("/db1/renew") for path in between.asked) >= 2)
        assert "/v1/commands" not in between.asked


async def test_the_lease_counts_from_before_a_renewal_waited_for_others(here: Group) -> None:
    lease_seconds, delay_seconds = 4.0, 0.5
    await here.create("db1", lease_seconds=lease_seconds)
    over: list[float] = []

    class Slow(Service):
        async def demote(self, epoch: int) -> None:
            await until(lambda: not leader.leads)
            over.append(elapsed_seconds())

    async with relay(here.url) as between:
        between.answer_delay_seconds = delay_seconds
        async with member(here, Slow(), url=between.url) as leader:
            await until(lambda: leader.leads)
            async with AsyncExitStack() as stack:
                await _beside(here, between.url, stack)
                between.asked.clear()
                await until(lambda: between.asked.count("/v1/commands") >= 3)
                between.cut()
                await until(lambda: bool(over))
                assert over[0] < between.renewed_at + 0.9 * lease_seconds + delay_seconds / 2
                assert over[0] > between.renewed_at + 0.5 * lease_seconds
                between.answer_delay_seconds = 0.0
                between.mend()


async def _beside(here: Group, url: str, stack: AsyncExitStack) -> None:
    """A member of another group in the same process."""
    body = {"members": [{"member": "x"}], "lease_seconds": 4.0}
    async with aiohttp.ClientSession() as session, session.put(f"{here.url}/v1/groups/other", json=body) as answer:
        assert answer.status == 200
    await stack.enter_async_context(Membership("other", "x", url=url))


async def test_one_that_is_refused_goes_and_the_others_stay(here: Group) -> None:
    await here.create(*NAMES, lease_seconds=30.0, heartbeat_seconds=0.2)
    accepted: list[float] = []
    async with AsyncExitStack() as stack:
        leader = Membership(
            "db", "db1", url=here.url, on_lease=lambda renewed_at, lease_seconds: accepted.append(renewed_at)
        )
        await stack.enter_async_context(leader)
        await until(lambda: leader.leads)
        second = await stack.enter_async_context(member(here, Service(), "db2"))
        await stack.enter_async_context(member(here, Service(), "db3"))
        await here.until(lambda row: {one.status for one in row.members} == {"active"})
        # Another process runs db2 from here on.
        path = f"{here.url}/v1/groups/db/members/db2/join"
        async with aiohttp.ClientSession() as session, session.post(path, json={"process": "another"}) as answer:
            assert answer.status == 200
        with pytest.raises(StaleIncarnation):
            async with asyncio.timeout(30):
                await second.ended()
        since = elapsed_seconds()
        await until(lambda: accepted[-1] > since)
        assert (leader.leads, leader.epoch) == (True, 1)


async def test_they_go_on_when_their_controller_was_killed(tmp_path: Path) -> None:
    server = ControllerProcess(tmp_path / "log", free_port())
    await server.start()
    accepted: list[float] = []
    async with Client(server.url, timeout_seconds=30) as client:
        here = Group(server.url, client)
        await here.create("db1", "db2", lease_seconds=16.0)
        leader = Membership(
            "db", "db1", url=server.url, on_lease=lambda renewed_at, lease_seconds: accepted.append(renewed_at)
        )
        async with leader:
            await until(lambda: leader.leads)
            async with member(here, Service(), "db2"):
                await here.until(lambda row: row.serving and {one.status for one in row.members} == {"active"})
                server.kill()
                await server.start()
                since = elapsed_seconds()
                await until(lambda: accepted[-1] > since)
                assert (leader.leads, leader.epoch) == (True, 1)
                row = await here.until(lambda row: {one.status for one in row.members} == {"active"})
                assert (row.primary, row.epoch) == ("db1", 1)
    server.stop()


async def test_a_long_lease_keeps_no_heartbeat_waiting(here: Group) -> None:
    # A tenth of what a renewal may take here is longer than the silence after which a member has failed.
    await here.create(*NAMES, lease_seconds=600.0)
    async with relay(here.url) as between, AsyncExitStack() as stack:
        for name in NAMES:
            await stack.enter_async_context(member(here, Service(), name, between.url))
        await here.until(lambda row: {one.status for one in row.members} == {"active"})
        between.asked.clear()
        await until(lambda: between.asked.count("/v1/commands") >= 8)
        events = await here.failures()
        assert events == []


async def test_a_long_list_is_sent_before_its_time(here: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    await here.create(*NAMES, lease_seconds=600.0)
    monkeypatch.setattr(renewals, "request_renewals_max", 2)
    monkeypatch.setattr(renewals, "gather_seconds_max", 3_600.0)
    async with relay(here.url) as between, AsyncExitStack() as stack:
        for name in NAMES[:2]:
            await stack.enter_async_context(member(here, Service(), name, between.url))
        began = elapsed_seconds()
        await until(lambda: between.asked.count("/v1/commands") >= 2)
        # A list that is not full would have waited for fifteen seconds.
        assert elapsed_seconds() - began < 10


async def test_lists_are_of_one_partition_each(here: Group) -> None:
    # Where one partition has no writer for a while, the answer for those of the others does not wait for it.
    async with relay(here.url) as between, Client(between.url) as client:
        async with shared_renewals(between.url, None) as shared, shared_renewals([between.url], None) as same:
            assert same is shared
            some = [Words(client._transport, group, "a") for group in ("g1", "g2", "g3")]
            some[2].partition = 1
            told = await asyncio.gather(*(shared.renew(words, None, 10.0) for words in some), return_exceptions=True)
        assert [type(one) for one in told] == [GroupNotFound] * 3
        assert between.asked.count("/v1/commands") == 2


async def test_a_late_answer_keeps_no_renewal_of_a_primary_waiting(here: Group) -> None:
    await here.create("db1", lease_seconds=6.0)
    accepted: list[float] = []
    async with relay(here.url) as between:
        leader = Membership("db", "db1", url=between.url, on_lease=lambda renewed_at, _: accepted.append(renewed_at))
        async with leader:
            await until(lambda: leader.leads)
            between.answer_delay_seconds = 1.6
            await until(lambda: len(accepted) >= 2 and accepted[-1] - accepted[-2] > 0.9)
            accepted.clear()
            await until(lambda: len(accepted) >= 5)
            between.answer_delay_seconds = 0.0
        # Each is a sixth of the lease behind the one before it, though that was not answered yet.
        assert min(later - earlier for earlier, later in pairwise(accepted)) < 1.5
        assert leader.epoch == 1


async def test_a_controller_that_answers_too_late_is_asked_less_often_than_one_that_answers(here: Group) -> None:
    await here.create("db1", lease_seconds=2.0)
    async with relay(here.url) as between, member(here, Service(), url=between.url):
        row = await here.until(lambda row: row.serving)
        # Every renewal, and every claim of the epoch that the group gives when the lease is over, is given up unanswered.
        between.answer_delay_seconds = 1.2
        await here.until(lambda row: row.epoch > 1)
        between.asked.clear()
        began, renewals_asked = elapsed_seconds(), 10
        await until(lambda: sum(path.endswith("/renew") for path in between.asked) >= renewals_asked)
        assert elapsed_seconds() - began > renewals_asked * row.heartbeat_seconds
        between.answer_delay_seconds = 0.0
