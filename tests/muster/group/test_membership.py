"""A service that hosts itself as a member of a group, at a real controller."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from muster import Client, Membership, MusterError
from muster.clock import elapsed_seconds
from muster.group.fencing import FenceTarget
from muster.wire.error import MemberNotFound, StaleIncarnation
from muster.wire.groups.answers import GROUPS, GroupState
from tests.muster.controller import controller
from tests.muster.group.relay import Relay, relay


class Group:
    """The group `db` at a controller, as an operator sees it."""

    def __init__(self, url: str, client: Client) -> None:
        self.url = url
        self._client = client

    async def create(self, *members: str, **settings: object) -> None:
        body = {"members": [{"member": member} for member in members], **settings}
        async with aiohttp.ClientSession() as session, session.put(f"{self.url}/v1/groups/db", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def add(self, name: str) -> None:
        url = f"{self.url}/v1/groups/db/members/{name}"
        async with aiohttp.ClientSession() as session, session.put(url, json={"priority": 1}) as answer:
            assert answer.status == 200, await answer.text()

    async def told(self, kind: str) -> list[dict[str, object]]:
        found = await self._client.newest_events(type=kind)
        return [dict(event.data) for event in found.items]

    async def failover(self) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/v1/groups/db/failover", json={}) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def until(self, holds: Callable[[GroupState], bool]) -> GroupState:
        async with asyncio.timeout(30):
            while not holds(row := await self._client.row(GROUPS, "db", consistency="strong")):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            return row

    async def failures(self) -> list[str]:
        found = await self._client.newest_events(type="member_failed")
        return [f"{event.data['member']}: {event.data['why']}" for event in found.items]

    async def endings(self) -> list[tuple[int, str]]:
        found = await self._client.newest_events(type="primary_ended")
        return [(event.data["epoch"], event.data["how"]) for event in found.items]


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    async with controller(tmp_path / "log") as url, Client(url) as client:
        yield Group(url, client)


class Service:
    """What a member does when it is called, told as it is called."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    async def promote(self, epoch: int) -> None:
        self.told.append(("promote", epoch))

    async def demote(self, epoch: int) -> None:
        self.told.append(("demote", epoch))


def member(group: Group, service: Service, name: str = "db1", url: str = "") -> Membership:
    return Membership("db", name, url=url or group.url, on_promote=service.promote, on_demote=service.demote)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 what is asked sets no event
            await asyncio.sleep(0.005)


async def test_it_leads_with_the_epoch_that_it_is_given_and_hands_over_when_it_leaves(group: Group) -> None:
    await group.create("db1", "db2", lease_seconds=600)
    one, two = Service(), Service()
    async with member(group, two, "db2") as second:
        async with member(group, one) as first:
            row = await group.until(lambda row: row.primary is not None and row.serving)
            led, waits = (first, second) if row.primary == "db1" else (second, first)
            assert (led.role, led.epoch, led.leads) == ("primary", 1, True)
            assert (waits.role, waits.leads) == ("standby", False)
            if row.primary == "db2":
                await group.failover()
                await group.until(lambda row: row.primary == "db1" and row.serving)
            epoch = first.epoch
        assert one.told == [("promote", epoch), ("demote", epoch)]
        assert not first.leads
        row = await group.until(lambda row: row.primary == "db2" and row.serving)
        assert row.epoch == epoch + 1 == second.epoch
    assert {how for _, how in await group.endings()} == {"said"}


async def test_the_lease_counts_from_before_the_renewal_was_sent(group: Group) -> None:
    lease_seconds, delay_seconds = 4.0, 0.7
    await group.create("db1", lease_seconds=lease_seconds)
    over: list[float] = []

    class Slow(Service):
        async def demote(self, epoch: int) -> None:
            # It takes as long to stop as it may.
            await until(lambda: not membership.leads)
            over.append(elapsed_seconds())

    async with relay(group.url) as between:
        between.answer_delay_seconds = delay_seconds
        async with member(group, Slow(), url=between.url) as membership:
            await until(lambda: membership.leads)
            between.cut()
            await until(lambda: bool(over))
            # A moment to notice; what is counted from the answer is over later by all of the delay.
            assert over[0] < between.renewed_at + 0.9 * lease_seconds + delay_seconds / 2
            assert over[0] > between.renewed_at + 0.5 * lease_seconds
            between.answer_delay_seconds = 0.0
            between.mend()


async def test_what_has_ended_by_itself_was_seen_to_have(group: Group) -> None:
    await group.create("db1", lease_seconds=600)
    service = Service()
    async with member(group, service) as membership:
        await until(lambda: membership.leads)
        membership.ended_by_itself("it has crashed")
        assert not membership.leads
        # Nobody else is there: it leads again, with another epoch, after a pause.
        await group.until(lambda row: row.epoch == 2 and row.serving)
        assert service.told == [("promote", 1), ("demote", 1), ("promote", 2)]
    assert await group.endings() == [(1, "seen"), (2, "said")]


async def test_the_word_of_an_end_goes_before_what_is_put_away(group: Group) -> None:
    await group.create("db1", lease_seconds=600)
    said_when_demoted: list[int] = []
    async with relay(group.url) as between:

        class Following(Service):
            async def demote(self, epoch: int) -> None:
                said_when_demoted.append(sum(path.endswith("/ended") for path in between.asked))

        async with member(group, Following(), url=between.url) as membership:
            await until(lambda: membership.leads)
            membership.ended_by_itself("it has crashed")
            await until(lambda: bool(said_when_demoted))
            assert said_when_demoted == [1]
            await until(lambda: membership.leads)
            # Nor does what is to be put away wait for a controller that does not answer.
            between.cut()
            membership.ended_by_itself("it has crashed again")
            async with asyncio.timeout(5):
                await until(lambda: len(said_when_demoted) == 2)
            between.mend()


async def test_who_cannot_become_the_primary_has_failed(group: Group) -> None:
    await group.create("db1", lease_seconds=600)

    class Broken(Service):
        async def promote(self, epoch: int) -> None:
            raise MusterError("no disk")

    service = Broken()
    async with member(group, service):
        row = await group.until(lambda row: row.members[0].status == "failed")
        assert row.members[0].why == "no disk"
        await group.until(lambda row: row.primary is None)
    assert service.told[0] == ("demote", 1)


async def test_who_cannot_stop_says_nothing_and_the_lease_runs_out(group: Group) -> None:
    await group.create("db1", lease_seconds=1.0)

    class Stuck(Service):
        async def demote(self, epoch: int) -> None:
            raise RuntimeError("it does not let go")

    async with member(group, Stuck()) as membership:
        await until(lambda: membership.leads)
    await group.until(lambda row: row.primary is None)
    assert await group.endings() == [(1, "lease")]


async def test_it_ends_when_another_process_runs_the_member(group: Group) -> None:
    await group.create("db1", lease_seconds=2.0)
    one, two = Service(), Service()
    async with member(group, one) as first:
        await until(lambda: first.leads)
        async with member(group, two) as second:
            with pytest.raises(StaleIncarnation):
                await first.ended()
            assert one.told == [("promote", 1), ("demote", 1)]
            await until(lambda: second.leads)
            assert second.epoch == 2


async def test_who_is_to_stop_does_not_wait_for_what_it_puts_away_at_the_start(group: Group) -> None:
    await group.create("db1")
    began = asyncio.Event()

    async def put_away() -> None:
        began.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(30), Membership("db", "db1", url=group.url, on_join=put_away):
        await began.wait()
    await group.until(lambda row: row.members[0].status == "inactive")


async def test_a_row_that_cannot_be_read_ends_no_primary(group: Group) -> None:
    await group.create("db1")
    service = Service()
    async with relay(group.url) as between, member(group, service, url=between.url) as membership:
        await until(lambda: membership.leads)
        watches = sum("/watch/" in path for path in between.asked)
        between.instead = {b'"preempt":false': b'"preempt":12345'}
        await group.add("db2")
        # It cannot read that, and asks anew; meanwhile it leads on.
        await until(lambda: sum("/watch/" in path for path in between.asked) > watches)
        assert (membership.leads, service.told) == (True, [("promote", 1)])
        between.instead = {}
        await until(lambda: membership.row is not None and len(membership.row.members) == 2)


async def test_who_is_no_member_does_not_join(group: Group) -> None:
    await group.create("db1")
    with pytest.raises(MemberNotFound):
        async with member(group, Service(), "db7"):
            pass


async def test_how_far_copies_reach_is_told_once_the_primary_has_ended(group: Group) -> None:
    await group.create("db1", "db2", "db3", lease_seconds=600, max_lag=5)
    reach = {"db1": 100, "db2": 90, "db3": 97}

    def of(name: str) -> Membership:
        async def position() -> int:
            return reach[name]

        return Membership("db", name, url=group.url, position=position)

    async with of("db1") as first, of("db2"), of("db3"):
        if first.role != "primary":
            await group.until(lambda row: row.primary is not None and row.serving)
        row = await group.until(lambda row: all(one.status == "active" for one in row.members))
        leading = row.primary
        assert leading is not None
        # Whoever leads reaches furthest; the one behind by more than the bound is passed over.
        reach.update({leading: 100})
        behind, close = sorted({"db1", "db2", "db3"} - {leading})
        reach.update({behind: 90, close: 97})
        await group.failover()
        await group.until(lambda row: row.primary == close)


async def test_what_is_no_position_ends_nobody_and_is_asked_for_again(group: Group) -> None:
    await group.create("db1", lease_seconds=600, max_lag=5)
    answers: list[object] = [-1, 1 << 63, 1 << 64, "7", None, 7]

    async def position() -> object:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    leader, careless = member(group, Service()), Membership("db", "db2", url=group.url, position=position)  # type: ignore[arg-type]
    async with leader:
        await group.until(lambda row: row.serving)
        await group.add("db2")
        async with careless:
            await group.until(lambda row: row.members[1].status == "active")
            await group.failover()
            row = await group.until(lambda row: row.primary == "db2")
            assert row.members[1].position == 7


async def test_what_a_check_raises_is_told_whatever_it_is(group: Group) -> None:
    await group.create("db1")

    def check() -> Awaitable[None]:
        raise OSError(2_000 * "!" + " no such file: b\udcff")

    async with Membership("db", "db1", url=group.url, check=check):
        row = await group.until(lambda row: row.members[0].status == "failed")
        assert row.members[0].why.endswith("! no such file: b?")


class Fencer(Service):
    """A service that is asked to fence: `targets` are those, `failures` what comes first of it."""

    def __init__(self, *failures: str, hangs: bool = False) -> None:
        super().__init__()
        self.targets: list[FenceTarget] = []
        self.failures, self.hangs = list(failures), hangs
        self.broken_off = False

    async def fence(self, target: FenceTarget) -> str:
        self.targets.append(target)
        if self.failures:
            raise MusterError(self.failures.pop(0))
        if self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.broken_off = True
        return "its port is closed"


@asynccontextmanager
async def cut_off(group: Group, fencer: Fencer) -> AsyncIterator[Relay]:
    """db1 leads and is cut off; db2 can fence it. The lease is far longer than a test."""
    await group.create("db1", lease_seconds=600, fencing="hook")
    async with relay(group.url) as between, member(group, Service(), url=between.url) as first:
        await group.until(lambda row: row.serving)
        await group.add("db2")
        db2 = Membership(
            "db", "db2", url=group.url, on_promote=fencer.promote, on_demote=fencer.demote, fence=fencer.fence
        )
        async with db2:
            await group.until(lambda row: row.members[1].status == "active")
            between.cut()
            try:
                yield between
            finally:
                between.mend()
                await until(lambda: first.row is not None and first.row.epoch > 1)


async def test_who_is_cut_off_is_fenced_and_followed_long_before_its_lease_is_over(group: Group) -> None:
    fencer = Fencer()
    async with cut_off(group, fencer):
        row = await group.until(lambda row: row.primary == "db2" and row.serving)
        [target] = fencer.targets
        incarnation = row.members[0].incarnation
        assert target == FenceTarget("db1", "", 1, incarnation)
        assert await group.endings() == [(1, "hook")]


async def test_what_could_not_be_fenced_is_told_and_tried_again(group: Group) -> None:
    fencer = Fencer("no such volume", "no such volume")
    async with cut_off(group, fencer):
        await group.until(lambda row: row.primary == "db2")
        assert await group.told("fencing_failed") == [
            {"member": "db2", "primary": "db1", "epoch": 1, "attempt": number, "why": "no such volume"}
            for number in (1, 2)
        ]
        assert [how for _, how in await group.endings()] == ["hook"]


async def test_who_is_heard_again_is_not_fenced_any_more(group: Group) -> None:
    fencer = Fencer(hangs=True)
    async with cut_off(group, fencer) as between:
        await until(lambda: bool(fencer.targets))
        between.mend()
        await until(lambda: fencer.broken_off)
        await group.until(lambda row: row.primary == "db2" and row.serving)
        assert [how for _, how in await group.endings()] == ["said"]
        assert await group.told("fencing_failed") == []
