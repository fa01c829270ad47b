"""The writer loop on real recorders: an answer leaves only when the log has proven it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from types import SimpleNamespace

import pytest
from eventsourcing.persistence import ApplicationRecorder, StoredEvent
from eventsourcing.popo import POPOApplicationRecorder

from domain.registry.service import (
    DeregisterInstance,
    DrainInstance,
    Heartbeat,
    ObserveCheck,
    ReportHealth,
    UndrainInstance,
)
from infra.log.call_thread import CallThread
from infra.log.codec import CloudEventMapper
from infra.log.port import START
from infra.log.recorder import RecorderLog
from infra.sqlite.log import LogRecorder, SqliteLog
from muster.wire.command import Envelope
from muster.wire.error import MusterError, NotReady, Timeout
from muster.wire.route import partition_of
from tests.machine import statuses
from tests.sample import HTTP, NOON, envelope, register
from tests.workers.writer.faulty_log import FaultyLog
from workers.machine import partition as partition_module
from workers.machine.partition import Partition
from workers.views.views import Views
from workers.writer import log_follower, queue
from workers.writer import writer as module
from workers.writer.request import AnswerOrError
from workers.writer.writer import Writer


class Logs:
    """Opens the log of a partition in one recorder, each time as another process would."""

    def __init__(self, recorder: ApplicationRecorder, thread: CallThread | None = None) -> None:
        self.recorder = recorder
        self.thread = thread

    def __call__(self, partition: int = 0) -> RecorderLog:
        if isinstance(self.recorder, LogRecorder):
            return SqliteLog(self.recorder, partition, thread=self.thread)
        return RecorderLog(self.recorder, partition)

    def damage(self, position: int, partition: int = 0) -> None:
        """Write bytes to the position that begin as ours do, and are not."""
        value = b'{"specversion":"1.0","type":"muster.instance.drain_started.v1"}'
        self.recorder.insert_events([StoredEvent(f"muster.events/{partition}", position, "t", value)])


@pytest.fixture(params=["memory", "sqlite"])
def logs(request, tmp_path):
    if request.param == "memory":
        yield Logs(POPOApplicationRecorder())
        return
    with closing(CallThread("log")) as thread:
        recorder = LogRecorder(tmp_path / "log.sqlite")
        recorder.create_table()
        yield Logs(recorder, thread)


@pytest.fixture(autouse=True)
def _no_beats_of_its_own(monkeypatch):
    """A beat that nobody asked for would come into the tests' way when the machine is slow."""
    monkeypatch.setattr(module, "beat_every_seconds", 3_600.0)


ELSEWHERE = next(name for name in map(str, range(99)) if partition_of(f"service/{name}", 2) == 1)
"""A service that lives in partition 1 of 2."""


class Running:
    """A writer at work on a log that can be made to fail."""

    def __init__(self, log: RecorderLog, name: str, **options) -> None:
        self.log = FaultyLog(log)
        self.wanted = True
        self.views = Views([log.partition])
        self.partition = Partition(log.partition, CloudEventMapper(), partitions=options.pop("partitions", 1))
        self.writer = Writer(self.log, self.partition, self.views, name=name, wanted=lambda: self.wanted, **options)
        self.execute = self.writer.execute
        self.submit = self.writer.submit

    async def reigns(self) -> "Running":
        await until(lambda: self.writer.state == "reigning")
        return self

    async def answers(self, *envelopes) -> list[str]:
        """What became of commands that are submitted together."""
        return statuses(await asyncio.gather(*map(self.submit, envelopes)))

    async def history(self) -> list[str]:
        """The types of all recorded events, read anew from the log."""
        return [
            document["type"].removeprefix("muster.instance.").removesuffix(".v1")
            async for batch in self.log.read(START)
            for _, document in batch.records
        ]


@asynccontextmanager
async def running(log: RecorderLog, name: str = "w1", **options) -> AsyncIterator[Running]:
    """The writer's loop, for the length of the block."""
    told = Running(log, name, **options)
    loop = asyncio.create_task(told.writer.run())
    try:
        yield told
    finally:
        told.log.open.set()
        told.writer.stop()
        await asyncio.wait_for(loop, 5)


async def until(condition) -> None:
    """Let the others run until it is so."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 — what is waited for has no event of its own
            await asyncio.sleep(0.001)


class TestGroupCommit:
    async def test_a_command_is_decided_recorded_and_seen(self, logs):
        async with running(logs()) as told:
            answer = await told.execute(register())
            assert (answer.status, answer.position) == ("accepted", 1)
            assert told.views.registry.instance("orders", "a").position == 1
            assert await told.history() == ["registered"]

    async def test_no_answer_leaves_before_the_append_is_acknowledged(self, logs):
        async with running(logs()) as told:
            await told.reigns()
            told.log.open.clear()
            asked = [told.submit(register()), told.submit(envelope("2", Heartbeat(instance="x")))]
            await told.log.waiting.wait()
            assert not any(future.done() for future in asked)
            assert ("orders",) not in told.views.services
            told.log.open.set()
            assert statuses(await asyncio.gather(*asked)) == ["accepted", "InstanceNotFound"]

    async def test_what_arrives_meanwhile_is_one_batch(self, logs):
        async with running(logs()) as told:
            await told.reigns()
            told.log.open.clear()
            first = told.submit(register("a", "1"))
            await told.log.waiting.wait()
            rest = [told.submit(register(name, name)) for name in "bcd"]
            told.log.open.set()
            await asyncio.gather(first, *rest)
            assert told.log.appends == [1, 3]

    async def test_an_answer_without_events_waits_for_a_beat(self, logs):
        async with running(logs()) as told:
            await told.execute(register())
            told.log.open.clear()
            asked = [
                told.submit(envelope("2", Heartbeat(instance="a"))),
                told.submit(envelope("3", Heartbeat(instance="b"))),
            ]
            await told.log.waiting.wait()
            assert not any(future.done() for future in asked)
            told.log.open.set()
            assert statuses(await asyncio.gather(*asked)) == ["unchanged", "InstanceNotFound"]

    async def test_more_than_one_group_holds_is_answered_in_order(self, logs, monkeypatch):
        monkeypatch.setattr(module, "group_commands_max", 3)
        async with running(logs()) as told:
            answers = await asyncio.gather(*(told.submit(register(f"i{number}", str(number))) for number in range(8)))
            assert [answer.position for answer in answers] == list(range(1, 9))
            assert told.log.appends == [3, 3, 2]

    async def test_what_the_checker_sees_is_recorded_without_a_caller(self, logs):
        async with running(logs()) as told:
            await told.execute(register(checks=(HTTP,)))
            told.writer.observe(
                "service/orders", ObserveCheck(instance="a", incarnation=0, check="ready", status="healthy")
            )
            await until(lambda: told.views.registry.instance("orders", "a").health == "healthy")
            assert await told.history() == ["registered", "health_changed"]


def registers(names: str) -> list[Envelope]:
    """A list of commands, one for each letter; each one's id is its instance's."""
    return [register(name, name) for name in names]


def known(told: list[AnswerOrError]) -> list[str]:
    """What is known of each command of a list."""
    return [type(one).__name__ if isinstance(one, MusterError) else statuses([one])[0] for one in told]


class TestLists:
    async def test_a_list_is_one_batch_and_its_refusals_stop_nothing(self, logs):
        async with running(logs()) as told:
            await told.reigns()
            heard = told.writer.submit_all(
                [register("a", "1"), envelope("2", Heartbeat(instance="x")), register("b", "3"), register("a", "1")]
            )
            assert known(await heard) == ["accepted", "InstanceNotFound", "accepted", "accepted again"]
            assert told.log.appends == [2]

    async def test_a_list_without_commands_is_answered_at_once(self, logs):
        async with running(logs()) as told:
            assert told.writer.submit_all([]).result() == []

    async def test_one_that_several_groups_hold_is_answered_when_its_last_command_is_safe(self, logs, monkeypatch):
        monkeypatch.setattr(module, "group_commands_max", 3)
        async with running(logs()) as told:
            await told.reigns()
            told.log.open.clear()
            heard, behind = told.writer.submit_all(registers("abcdefgh")), told.submit(register("z", "z"))
            for _ in range(3):
                await told.log.waiting.wait()
                assert not heard.done()
                told.log.step()
            assert [answer.position for answer in (*await heard, await behind)] == list(range(1, 10))
            assert told.log.appends == [3, 3, 3]

    @pytest.mark.parametrize("fault", ["lost", "landed"])
    async def test_nothing_of_it_is_lost_or_said_twice_when_an_append_fails(self, logs, monkeypatch, fault):
        monkeypatch.setattr(module, "group_commands_max", 2)
        async with running(logs()) as told:
            await told.reigns()
            told.log.faults.append(fault)
            assert known(await told.writer.submit_all(registers("abcde"))) == ["accepted"] * 5
            assert await told.history() == ["registered"] * 5

    async def test_what_the_caller_repeats_behind_a_failed_append_is_a_repeat(self, logs, monkeypatch):
        async with running(logs()) as told:
            await told.execute(register("z", "z"))
            # The first time there is room for two; the second time they need none, and all the others come along.
            monkeypatch.setattr(told.partition, "_batch_records_max", 2)
            told.log.faults.append("landed")
            heard = told.writer.submit_all([*registers("abc"), register("z", "z")])
            assert known(await heard) == ["accepted", "accepted", "accepted", "accepted again"]
            assert told.log.appends == [1, 2, 1]

    async def test_what_was_tried_once_stays_so_when_less_is_tried_again(self, logs, monkeypatch):
        monkeypatch.setattr(module, "group_commands_max", 2)
        async with running(logs()) as told:
            await told.reigns()
            told.log.open.clear()
            heard = told.writer.submit_all(registers("abc"))
            await told.log.waiting.wait()
            monkeypatch.setattr(module, "group_commands_max", 1)
            told.log.faults.extend(["lost", "lost"])
            told.log.step()
            await told.log.waiting.wait()
            told.wanted = False
            told.log.open.set()
            assert known(await heard) == ["Timeout", "Timeout", "NotReady"]

    @pytest.mark.parametrize(("fault", "sent"), [("lost", "Timeout"), ("landed", "accepted")])
    async def test_when_the_reign_ends_each_command_hears_what_is_known_of_it(self, logs, monkeypatch, fault, sent):
        monkeypatch.setattr(module, "group_commands_max", 2)
        async with running(logs()) as told:
            await told.reigns()
            told.log.open.clear()
            heard = told.writer.submit_all(registers("abcdef"))
            await told.log.waiting.wait()
            told.log.step()
            await told.log.waiting.wait()
            told.wanted = False
            told.log.faults.append(fault)
            told.log.open.set()
            assert known(await heard) == ["accepted", "accepted", sent, sent, "NotReady", "NotReady"]
            assert told.writer.waiting == 0

    async def test_who_was_taken_while_the_partition_was_wanted_for_a_moment_is_refused(self, logs):
        async with running(logs()) as told:
            await told.reigns()
            told.wanted = False
            told.writer.wake()
            await until(lambda: told.writer.state == "following")
            await until(lambda: "reigns" in told.writer.detail)
            told.wanted = True
            heard = told.writer.submit_all(registers("a"))
            told.wanted = False
            assert known(await asyncio.wait_for(heard, 5)) == ["NotReady"]

    async def test_who_waits_too_long_hears_what_is_known_by_then(self, logs, monkeypatch):
        monkeypatch.setattr(module, "group_commands_max", 1)
        async with running(logs(), reply_timeout_seconds=0.05) as told:
            await told.reigns()
            told.log.open.clear()
            heard = told.writer.submit_all(registers("ab"))
            await told.log.waiting.wait()
            told.log.step()
            assert known(await heard) == ["accepted", "Timeout"]
            told.log.open.set()
            await until(lambda: told.writer.waiting == 0)
            assert known(await told.writer.submit_all(registers("b"))) == ["accepted again"]

    async def test_one_that_does_not_fit_into_the_queue_is_refused_whole(self, logs, monkeypatch):
        monkeypatch.setattr(queue, "queue_commands_max", 3)
        async with running(logs()) as told:
            await told.reigns()
            with pytest.raises(NotReady, match="slow down"):
                told.writer.submit_all(registers("abcd"))
            assert known(await told.writer.submit_all(registers("abc"))) == ["accepted"] * 3
            assert known(await told.writer.submit_all(registers("def"))) == ["accepted"] * 3

    async def test_published_ones_take_their_offsets_along_and_wait_as_long_as_it_takes(self, logs):
        async with running(logs(), reply_timeout_seconds=0.01) as told:
            await told.reigns()
            told.log.open.clear()
            heard = told.writer.submit_all(registers("ab"), [7, 9])
            await told.log.waiting.wait()
            await asyncio.sleep(3 * module.tick_seconds)
            assert not heard.done()
            told.log.open.set()
            assert known(await heard) == ["accepted", "accepted"]
            assert told.partition.commands_offset == 10


async def test_before_the_first_term_no_sentence_names_a_writer(logs):
    async with running(logs()) as told:
        told.wanted = False
        await until(lambda: told.writer.recovered.is_set() and "agree" in told.writer.detail)
        with pytest.raises(
            NotReady, match="partition 0 is not written yet: the controllers have yet to agree who writes it; retry"
        ):
            told.submit(register())


async def test_a_clock_behind_the_log_is_warned_of(logs, caplog):
    async with running(logs(), clock=lambda: NOON) as told:
        await told.execute(register())
    async with running(logs(), "w2", clock=lambda: NOON - timedelta(hours=1)) as told:
        await told.reigns()
    assert [record.behind_seconds for record in caplog.records if "behind" in record.message] == [3_600.0]


class TestUncertain:
    async def test_an_append_that_did_land_is_answered_accepted_once(self, logs):
        async with running(logs()) as told:
            await told.reigns()
            told.log.faults.append("landed")
            answer = await told.execute(register())
            assert (answer.status, answer.duplicate, answer.position, answer.incarnation) == ("accepted", False, 1, 0)
            assert await told.history() == ["registered"]
            assert (await told.execute(register())).duplicate

    async def test_an_append_that_did_not_land_is_decided_again(self, logs):
        async with running(logs()) as told:
            await told.reigns()
            told.log.faults.append("lost")
            answer = await told.execute(register())
            assert (answer.status, answer.duplicate) == ("accepted", False)
            assert await told.history() == ["registered"]
            assert told.partition.cursor.term == 2

    @pytest.mark.parametrize("fault", ["lost", "landed"])
    async def test_nothing_of_a_mixed_group_is_lost_or_said_twice(self, logs, fault):
        async with running(logs()) as told:
            await told.reigns()
            told.log.faults.extend([fault, fault, "lost"])
            assert await told.answers(
                register(), envelope("2", DrainInstance(instance="a")), envelope("3", Heartbeat(instance="b"))
            ) == ["accepted", "accepted", "InstanceNotFound"]
            assert await told.history() == ["registered", "drain_started"]

    @pytest.mark.parametrize("fault", ["lost", "fenced"])
    async def test_a_beat_that_failed_ends_the_reign_and_is_asked_again(self, logs, fault):
        async with running(logs()) as told:
            await told.execute(register())
            told.log.faults.append(fault)
            assert await told.answers(envelope("2", Heartbeat(instance="a"))) == ["unchanged"]
            assert told.partition.cursor.term == 2

    async def test_views_never_show_what_was_not_recorded(self, logs):
        async with running(logs()) as told:
            await told.reigns()
            seen = []
            told.views.listen(lambda partition, cursor, changes: seen.extend(change.recorded for change in changes))
            told.log.faults.extend(["lost", "landed"])
            await told.execute(register())
            assert [(recorded.position, recorded.command_id) for recorded in seen] == [(2, "1")]

    @pytest.mark.parametrize(("fault", "outcome"), [("landed", "accepted"), ("lost", "unknown")])
    async def test_who_is_not_wanted_any_more_answers_by_what_the_log_says(self, logs, fault, outcome):
        async with running(logs()) as told:
            await told.reigns()
            told.log.open.clear()
            asked = told.submit(register())
            await told.log.waiting.wait()
            told.wanted = False
            told.log.faults.append(fault)
            told.log.open.set()
            if outcome == "accepted":
                assert statuses([await asked]) == ["accepted"]
            else:
                with pytest.raises(Timeout, match="unknown"):
                    await asked

    async def test_who_stops_meanwhile_says_that_the_outcome_is_unknown(self, logs):
        async with running(logs()) as told:
            await told.reigns()
            told.log.open.clear()
            asked = told.submit(register())
            await told.log.waiting.wait()
            told.log.faults.append("landed")
            told.writer.stop()
            told.log.open.set()
            with pytest.raises(Timeout, match="unknown"):
                await asked

    async def test_who_is_cancelled_meanwhile_leaves_nobody_waiting(self, logs):
        told = Running(logs(), "w1")
        loop = asyncio.create_task(told.writer.run())
        await told.reigns()
        told.log.open.clear()
        asked = told.submit(register())
        await told.log.waiting.wait()
        loop.cancel()
        with pytest.raises(Timeout, match="unknown"):
            await asyncio.wait_for(asked, 5)
        with pytest.raises(asyncio.CancelledError):
            await loop

    async def test_an_error_that_nobody_foresaw_ends_the_writer_and_leaves_nobody_waiting(self, logs):
        told = Running(logs(), "w1")
        loop = asyncio.create_task(told.writer.run())
        await told.reigns()
        told.log.faults.append("broken")
        with pytest.raises(Timeout, match="unknown"):
            await asyncio.wait_for(told.submit(register()), 5)
        with pytest.raises(RuntimeError, match="nobody foresaw this"):
            await loop


class TestDeposed:
    """A rival starts a term and changes what the answers depend on; the answers of the old reign never leave."""

    COMMANDS = (
        envelope("accepted", ReportHealth(instance="a", status="unhealthy")),
        envelope("unchanged", DrainInstance(instance="a")),
        envelope("refused", Heartbeat(instance="b")),
    )

    @asynccontextmanager
    async def both(self, logs):
        async with running(logs()) as old:
            await old.answers(register(), envelope("d", DrainInstance(instance="a")))
            async with running(logs(), "w2") as new:
                new.wanted = False
                await until(new.writer.recovered.is_set)
                yield old, new

    async def take_over(self, old, new):
        """The rival reigns: `a` is not draining any more, and `b` is here."""
        old.wanted, new.wanted = False, True
        new.writer.wake()
        await new.reigns()
        await new.answers(envelope("u", UndrainInstance(instance="a")), register("b", "b"))

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.id)
    async def test_what_it_decided_before_never_leaves(self, logs, command):
        async with self.both(logs) as (old, new):
            old.log.open.clear()
            asked = old.submit(command)
            await old.log.waiting.wait()
            await self.take_over(old, new)
            old.log.open.set()
            with pytest.raises(Timeout, match="unknown"):
                await asked
            assert await new.answers(*self.COMMANDS) == ["accepted", "accepted", "unchanged"]

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.id)
    async def test_if_it_reigns_again_it_decides_again(self, logs, command):
        async with self.both(logs) as (old, new):
            old.log.open.clear()
            asked = old.submit(command)
            await old.log.waiting.wait()
            await self.take_over(old, new)
            old.wanted, new.wanted = True, False
            old.log.open.set()
            assert statuses([await asked]) == ["unchanged" if command.id == "refused" else "accepted"]
            assert old.partition.cursor.term == 3

    async def test_a_strong_read_of_the_deposed_never_leaves(self, logs):
        async with self.both(logs) as (old, new):
            old.log.open.clear()
            asked = asyncio.create_task(old.writer.prove())
            await old.log.waiting.wait()
            await self.take_over(old, new)
            old.wanted, new.wanted = True, False
            old.log.open.set()
            assert await asked > new.log.appends[-1] + 2
            assert await asked == old.partition.cursor.position

    async def test_it_learns_so_by_itself_when_idle(self, logs, monkeypatch):
        monkeypatch.setattr(module, "beat_every_seconds", 0.01)
        async with self.both(logs) as (old, new):
            await self.take_over(old, new)
            await until(lambda: old.writer.state == "following" and old.partition.cursor == new.partition.cursor)
            assert old.views.registry.instance("orders", "b")

    async def test_it_takes_no_commands_and_says_who_reigns(self, logs):
        async with self.both(logs) as (old, new):
            await self.take_over(old, new)
            old.writer.wake()
            await until(lambda: old.writer.state == "following")
            with pytest.raises(NotReady, match="another controller"):
                await old.execute(register("c", "c"))

    async def test_what_its_checker_saw_is_dropped(self, logs):
        async with self.both(logs) as (old, new):
            await self.take_over(old, new)
            old.writer.wake()
            await until(lambda: old.writer.state == "following")
            before = await new.history()
            old.writer.observe("service/orders", ObserveCheck(instance="b", incarnation=3, check="x", status="healthy"))
            old.wanted, new.wanted = True, False
            await old.reigns()
            assert await old.answers(envelope("h", Heartbeat(instance="b"))) == ["unchanged"]
            assert await old.history() == before


class TestProof:
    async def test_a_strong_read_waits_for_a_beat_begun_after_it(self, logs):
        async with running(logs()) as told:
            await told.execute(register())
            told.log.open.clear()
            asked = asyncio.create_task(told.writer.prove())
            await told.log.waiting.wait()
            assert not asked.done()
            told.log.open.set()
            assert await asked == 1

    async def test_many_share_one_beat(self, logs):
        async with running(logs()) as told:
            await told.execute(register())
            beats = told.log.beats
            assert await asyncio.gather(*(told.writer.prove() for _ in range(50))) == [1] * 50
            assert told.log.beats == beats + 1

    async def test_one_that_comes_during_a_beat_waits_for_the_next(self, logs):
        async with running(logs()) as told:
            await told.execute(register())
            told.log.open.clear()
            first = asyncio.create_task(told.writer.prove())
            await told.log.waiting.wait()
            beats, second = told.log.beats, asyncio.create_task(told.writer.prove())
            told.log.open.set()
            await asyncio.gather(first, second)
            assert told.log.beats == beats + 2

    async def test_an_idle_writer_beats(self, logs, monkeypatch):
        monkeypatch.setattr(module, "beat_every_seconds", 0.01)
        async with running(logs()) as told:
            await told.reigns()
            await until(lambda: told.log.beats >= 3)
            assert await told.history() == []

    async def test_an_idle_writer_does_not_beat_all_the_time(self, logs, monkeypatch):
        monkeypatch.setattr(module, "tick_seconds", 0.001)
        async with running(logs()) as told:
            await told.reigns()
            await asyncio.gather(*(told.writer.prove() for _ in range(2)))
            beats = told.log.beats
            for _ in range(50):
                told.writer.wake()
                await asyncio.sleep(0)
            assert told.log.beats == beats


async def test_others_run_while_a_reign_begins(logs, monkeypatch):
    monkeypatch.setattr(partition_module, "begin_items_max", 1)
    async with running(logs()) as old:
        await old.answers(*(register(f"i{number}", f"c{number}", lease_seconds=5.0) for number in range(4)))
    async with running(logs(), "w2") as told:
        armed = []
        while told.writer.state != "reigning":
            armed.append(len(told.partition.deadlines))
            await asyncio.sleep(0)
    assert {1, 2, 3} <= set(armed)


class TestTime:
    @pytest.fixture
    def clock(self, monkeypatch):
        """The writer's monotonic clock, in our hands; its ticks stay real, and short."""
        clock = SimpleNamespace(now=1_000.0)
        monkeypatch.setattr(module, "tick_seconds", 0.001)
        return clock

    async def passes(self, told, clock, seconds):
        """So much time in small steps, each of them seen by the writer."""
        for _ in range(round(seconds / 0.25)):
            clock.now += 0.25
            await told.writer.prove()

    async def test_a_late_tick_moves_every_lease(self, logs, clock):
        async with running(logs(), monotonic=lambda: clock.now) as told:
            await told.execute(register(lease_seconds=5.0))
            clock.now += 3_600
            await told.writer.prove()
            await self.passes(told, clock, 4.0)
            assert await told.history() == ["registered"]
            await self.passes(told, clock, 1.5)
            assert await told.history() == ["registered", "lease_expired", "deregistered"]

    async def test_a_claim_gives_each_lease_its_full_length_and_time_to_find_the_new_writer(self, logs, clock):
        async with running(logs(), monotonic=lambda: clock.now) as first:
            await first.execute(register(lease_seconds=5.0))
        async with running(logs(), "w2", monotonic=lambda: clock.now) as told:
            await told.reigns()
            await self.passes(told, clock, module.reign_seconds + 4.5)
            assert await told.history() == ["registered"]
            await self.passes(told, clock, 1.5)
            assert await told.history() == ["registered", "lease_expired", "deregistered"]

    async def test_a_term_is_renewed(self, logs, clock):
        async with running(logs(), monotonic=lambda: clock.now) as told:
            await told.execute(register())
            clock.now += module.renew_term_seconds + 1
            assert await told.answers(envelope("2", Heartbeat(instance="a"))) == ["unchanged"]
            await until(lambda: told.partition.cursor.term == 2)
            assert await told.answers(register("b", "3")) == ["accepted"]

    async def test_who_waits_too_long_is_told_that_the_outcome_is_unknown(self, logs):
        async with running(logs(), reply_timeout_seconds=0.01) as told:
            await told.reigns()
            told.log.open.clear()
            with pytest.raises(Timeout, match="Retry with the same id"):
                await told.execute(register())
            told.log.open.set()
            await until(lambda: told.views.services)
            assert (await told.execute(register())).duplicate

    async def test_instants_never_run_backwards(self, logs):
        async with running(logs()) as told:
            await told.reigns()
            told.partition.last_at = NOON.replace(year=2100)
            await told.execute(register())
            assert told.views.registry.instance("orders", "a").registered_at == NOON.replace(year=2100)


class TestLimits:
    async def test_a_full_queue_refuses(self, logs, monkeypatch):
        monkeypatch.setattr(queue, "queue_commands_max", 3)
        async with running(logs()) as told:
            await told.reigns()
            told.log.open.clear()
            first = told.submit(register("a", "1"))
            await told.log.waiting.wait()
            rest = [told.submit(register("b", "2")), told.submit(register("c", "3"))]
            with pytest.raises(NotReady, match="slow down"):
                told.submit(register("d", "4"))
            told.log.open.set()
            assert statuses(await asyncio.gather(first, *rest)) == ["accepted"] * 3

    async def test_what_is_queued_is_answered_before_it_stops(self, logs):
        async with running(logs()) as told:
            await told.reigns()
            asked = told.submit(register())
            told.writer.stop()
            assert (await asked).status == "accepted"
            with pytest.raises(NotReady):
                told.submit(register("b", "2"))

    async def test_what_was_asked_before_the_log_was_read_is_answered(self, logs):
        async with running(logs()) as told:
            assert told.writer.state == "following"
            assert await told.answers(register()) == ["accepted"]


class TestRecovery:
    @pytest.mark.parametrize("told_max", [0, 2, 5, 100])
    async def test_views_are_the_same_however_much_of_the_log_was_skimmed(self, logs, monkeypatch, told_max):
        monkeypatch.setattr(log_follower, "shown_records_max", told_max)
        async with running(logs()) as old:
            for number in range(4):
                await old.answers(register(f"i{number}", f"a{number}", checks=(HTTP,)), register("b", f"b{number}"))
                await old.execute(envelope(f"d{number}", DeregisterInstance(instance=f"i{number // 2}")))
            told = old.views
        async with running(logs(), "w2") as new:
            await new.reigns()
            assert (new.views.services, new.views.history) == (told.services, told.history)
            assert new.views.instances == told.instances
            assert list(new.views.instances["orders"]) == list(told.instances["orders"])

    @pytest.mark.parametrize(("told_max", "others"), [(2, []), (4, [1])], ids=["alone", "its share of two"])
    async def test_listeners_hear_what_is_near_the_end_of_the_log(self, logs, monkeypatch, told_max, others):
        monkeypatch.setattr(log_follower, "shown_records_max", told_max)
        async with running(logs()) as old:
            for number in range(5):
                await old.execute(register(f"i{number}", f"c{number}"))
        new, heard = Running(logs(), "w2"), []
        new.views.cursors |= dict.fromkeys(others, START)
        new.views.listen(lambda _partition, cursor, _changes: heard.append(cursor.position))
        loop = asyncio.create_task(new.writer.run())
        await new.reigns()
        new.writer.stop()
        await loop
        assert heard[:3] == [3, 4, 5]

    async def test_a_crash_in_the_middle_does_not_pass_for_a_recovery(self, logs):
        async with running(logs()) as old:
            await old.execute(register())
        new = Running(logs(), "w2")
        new.log.readable = False
        with pytest.raises(RuntimeError):
            await new.writer.run()
        assert not new.writer.recovered.is_set()


class TestCorrupt:
    async def test_a_damaged_log_stops_its_partition_at_the_position_and_no_other(self, logs):
        async with running(logs(0)) as told:
            await told.execute(register())
            logs.damage(2)
        async with running(logs(0), "w2") as stopped, running(logs(1), "w2", partitions=2) as other:
            await until(lambda: stopped.writer.state == "corrupt")
            assert "damaged at position 2" in stopped.writer.detail
            with pytest.raises(NotReady, match="damaged at position 2"):
                await stopped.execute(register("b", "2"))
            assert stopped.views.registry.instance("orders", "a")
            assert await other.answers(register(service=ELSEWHERE)) == ["accepted"]

    async def test_who_waits_while_it_is_found_damaged_is_told(self, logs):
        logs.damage(0)
        async with running(logs(0)) as told:
            with pytest.raises(NotReady, match="damaged at position 0"):
                await told.execute(register())

    async def test_a_follower_that_finds_damage_stops(self, logs):
        async with running(logs(0)) as told:
            told.wanted = False
            await until(told.writer.recovered.is_set)
            assert told.partition.cursor == START
            logs.damage(0)
            await until(lambda: told.writer.state == "corrupt")
