"""Heartbeats at a writer: who waits, who is answered when, and what becomes of those that came too early or too late."""

import asyncio

import pytest

from muster.wire.error import NotReady, Timeout
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from tests.sample import TTL, register
from tests.workers.writer.test_writer import Running, logs, running, until
from workers.writer import beat_queue
from workers.writer import writer as writer_module

__all__ = ["logs"]


@pytest.fixture(autouse=True)
def _no_beats_of_its_own(monkeypatch):
    """A beat that nobody asked for would come into the tests' way when the machine is slow."""
    monkeypatch.setattr(writer_module, "beat_every_seconds", 3_600.0)


def message(*names: str, incarnation: int = 0) -> Heartbeats:
    return Heartbeats("host-7", "orders", [Beat(name, incarnation) for name in names])


async def registered(one: Running) -> None:
    await one.execute(register("a", "register", lease_seconds=30.0))


async def test_nobody_is_answered_before_the_reign_is_proven(logs):
    async with running(logs()) as one:
        await registered(await one.reigns())
        one.log.open.clear()
        heard = one.writer.hear([message("a"), message("b")])
        await one.log.waiting.wait()
        assert not heard.done()
        one.log.open.set()
        first, second = await heard
        assert first == []
        assert [(name, error.name) for name, error in second] == [("b", "InstanceNotFound")]
        assert await one.history() == ["registered"]


async def test_what_the_log_did_not_take_is_heard_in_the_next_reign(logs):
    async with running(logs()) as one:
        await registered(await one.reigns())
        one.log.faults.append("lost")
        assert await one.writer.hear([message("a")]) == [[]]


async def test_who_was_succeeded_renews_nothing(logs):
    async with running(logs()) as one:
        await registered(await one.reigns())
        one.wanted = False
        one.log.faults.append("fenced")
        with pytest.raises(NotReady):
            await one.writer.hear([message("a")])


async def test_more_than_a_group_hears_is_answered_when_all_of_it_is(logs, monkeypatch):
    monkeypatch.setattr(beat_queue, "group_beats_max", 2)
    async with running(logs()) as one:
        await registered(await one.reigns())
        told = [one.writer.hear([message("a", "a", "x"), message("a"), message("y")]), one.writer.hear([message("z")])]
        assert [[[name for name, _ in each] for each in heard] for heard in await asyncio.gather(*told)] == [
            [["x"], [], ["y"]],
            [["z"]],
        ]
        assert len(one.writer._beats) == one.writer._beats.beats == 0


async def test_one_that_does_not_fit_is_refused_whole(logs, monkeypatch):
    monkeypatch.setattr(beat_queue, "queue_beats_max", 2)
    async with running(logs()) as one:
        await registered(await one.reigns())
        with pytest.raises(NotReady, match="beat less often"):
            one.writer.hear([message("a", "a", "a")])
        assert await one.writer.hear([message("a")]) == [[]]


async def test_who_waits_too_long_is_told_and_heard_no_more(logs):
    monotonic = [100.0]
    async with running(logs(), monotonic=lambda: monotonic[0], reply_timeout_seconds=5.0) as one:
        await (await one.reigns()).execute(register("a", "register", checks=(TTL,)))
        one.log.open.clear()
        first = one.writer.hear([message("x")])
        await one.log.waiting.wait()
        # It would make the check healthy, which is an event.
        second = one.writer.hear([message("a")])
        monotonic[0] += 6.0
        for late in (first, second):
            with pytest.raises(Timeout):
                await late
        one.log.open.set()
        await until(lambda: not one.writer._beats)
        assert one.writer._beats.beats == 0
        assert await one.history() == ["registered"]


async def test_nothing_to_hear_is_answered_at_once(logs):
    async with running(logs()) as one:
        assert await (await one.reigns()).writer.hear([]) == []
