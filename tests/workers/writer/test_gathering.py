"""Signs of life let others come with them, since each proof of the reign costs as much as dozens of them; nobody else waits."""

import asyncio

import pytest

from domain.groups.commands import CreateGroup, NewMember
from domain.groups.member import JoinGroup, RenewMember, ReportMember
from domain.registry.service import Heartbeat
from muster.wire.command import Envelope
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from tests.machine import statuses
from tests.sample import envelope, register
from tests.workers.writer.test_writer import Running, logs, running
from workers.writer import writer as module

__all__ = ["logs"]

GROUP = "group/db"


@pytest.fixture(autouse=True)
def _for_as_long_as_it_takes(monkeypatch):
    """Whoever waits waits until somebody comes who does not, and no beat comes of itself."""
    monkeypatch.setattr(module, "beat_every_seconds", 3_600.0)
    monkeypatch.setattr(module, "gather_seconds_max", 3_600.0)


def sign(id_: str, name: str = "a") -> Envelope:
    return envelope(id_, Heartbeat(instance=name))


async def begun(one: Running) -> int:
    """An instance is there, and the reign was just proven; how many proofs there were."""
    await (await one.reigns()).execute(register("a", "register", lease_seconds=30.0))
    return one.log.beats


async def test_those_that_come_soon_after_a_proof_share_the_next_one(logs, monkeypatch):
    monkeypatch.setattr(module, "gather_seconds_max", 0.2)
    async with running(logs()) as one:
        before = await begun(one)
        asked = []
        for number in range(5):
            asked.append(one.submit(sign(str(number))))
            await asyncio.sleep(0.005)
        heard = one.writer.hear([Heartbeats("host-7", "orders", [Beat("a", 0)])])
        assert statuses(await asyncio.gather(*asked)) == ["unchanged"] * 5
        assert await heard == [[]]
        assert one.log.beats == before + 1


async def test_one_that_comes_long_after_a_proof_waits_for_nobody(logs, monkeypatch):
    async with running(logs()) as one:
        await begun(one)
        monkeypatch.setattr(module, "gather_seconds_max", 0.0)
        async with asyncio.timeout(5):
            assert (await one.execute(sign("1"))).status == "unchanged"


async def test_what_is_no_mere_sign_of_life_goes_at_once_and_takes_them_along(logs):
    async with running(logs()) as one:
        await begun(one)
        waits = one.submit(sign("1"))
        # Refused, it is none; and neither is a wish for a proof, or what the checker has seen.
        async with asyncio.timeout(5):
            assert (await one.execute(sign("2", "nobody"))).status == "refused"
        assert (await waits).status == "unchanged"
        waits = one.submit(sign("3"))
        async with asyncio.timeout(5):
            await one.writer.prove()
        assert (await waits).status == "unchanged"


async def test_many_of_them_wait_no_more(logs):
    async with running(logs()) as one:
        before = await begun(one)
        few = [one.submit(sign(str(number))) for number in range(module.gather_signs_max - 1)]
        await asyncio.sleep(0.05)
        assert not any(future.done() for future in few)
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*few, one.submit(sign("last")))
        assert set(statuses(answers)) == {"unchanged"}
        assert one.log.beats == before + 1


async def test_a_list_of_many_and_a_writer_that_stops_wait_for_nobody(logs):
    async with running(logs()) as one:
        await begun(one)
        some = [sign(str(number)) for number in range(module.gather_signs_max)]
        async with asyncio.timeout(5):
            assert len(await one.writer.submit_all(some)) == len(some)
        waits = one.submit(sign("1"))
    assert (await waits).status == "unchanged"


async def test_the_claim_of_a_primary_waits_for_nobody(logs):
    async with running(logs()) as one:
        await one.reigns()
        given = [
            CreateGroup(members=(NewMember("db1"),)),
            JoinGroup(member="db1", process="p1"),
            ReportMember(member="db1", incarnation=2, outcome="ready"),
        ]
        for number, command in enumerate(given):
            answer = await one.execute(Envelope(f"g{number}", GROUP, command))
            assert answer.error is None
        async with asyncio.timeout(5):
            claim = RenewMember(member="db1", incarnation=2, epoch=1)
            assert statuses([await one.execute(Envelope("claim", GROUP, claim))]) == ["unchanged"]
