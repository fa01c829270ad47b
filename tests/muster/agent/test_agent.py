"""The participant between a store in memory and a controller that says what the test wants said."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from muster.agent.agent import Agent
from muster.agent.settle import LocalShard
from muster.wire.error import NodeTaken, StaleIncarnation
from muster.wire.shards.driver import Extent, Location, ShardId, ShardLimits
from tests.drivers.memory_driver import Disk, MemoryNode, Network
from tests.muster.agent.node_control import LIMITS, NodeControl, node_control

LEASE = 1.0
SHARD = ShardId("users", 0)


class Participant:
    """A node `n1` with its disk, its agent, and how long it may serve."""

    def __init__(self, control: NodeControl, disk: Disk | None = None, **options: Any) -> None:
        self.disk: Disk = disk if disk is not None else {}
        self.network = Network()
        self.store = MemoryNode(Location("n1", "n1:1"), self.disk, self.network)
        self.control = control
        self.until = -math.inf
        self.driver: Any = Noted(self.store, control.asked)
        self.agent = Agent(
            self.driver,
            node="n1",
            address="n1:1",
            store="disk-1",
            url=options.pop("url", control.url),
            lease_seconds=LEASE,
            on_lease=self._leased,
            local=self._local,
            **options,
        )

    @property
    def serves(self) -> bool:
        return self.until > time.monotonic()

    async def _local(self) -> list[LocalShard]:
        return [LocalShard(shard, here.epoch, here.state) for shard, here in self.disk.items()]

    def _leased(self, until: float) -> None:
        if until > time.monotonic() >= self.until:
            self.control.asked.append("serve")
        self.until = until


class Noted:
    """A driver that writes down what it was asked, and can be told to wait or to fail."""

    def __init__(self, store: MemoryNode, asked: list[str]) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.fails: list[Exception] = []
        self.most = self.now = 0
        self._store = store
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def noted(shard: ShardId, *rest: Any) -> Any:
            self._asked.append(f"{name} {shard}")
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await self.goes_on.wait()
                if self.fails:
                    raise self.fails.pop(0)
                return await method(shard, *rest)
            finally:
                self.now -= 1

        return noted


@asynccontextmanager
async def running(participant: Participant) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(participant.agent.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def taking_part(disk: Disk | None = None, **options: Any) -> AsyncIterator[Participant]:
    """A participant that serves, and its controller."""
    async with node_control() as control:
        participant = Participant(control, disk, **options)
        async with running(participant):
            await until(lambda: participant.serves)
            yield participant


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def store_with(state: str, epoch: int) -> Disk:
    """A disk with the shard 0 of users in this state."""
    disk: Disk = {}
    store = MemoryNode(Location("n1", "n1:1"), disk, Network())
    await store.open(SHARD, epoch, ShardLimits(**LIMITS))
    store.put(SHARD, "alice", b"one")
    if state == "fenced":
        await store.fence(SHARD, epoch)
    return disk


# Joining and the lease


async def test_it_joins_with_what_it_is_and_a_process_of_its_own():
    async with taking_part(zone="a", capacity=2.0) as node:
        (told,) = node.control.joins
    assert told.pop("process")
    assert told == {"address": "n1:1", "zone": "a", "capacity": 2.0, "lease_seconds": LEASE, "store": "disk-1"}


async def test_it_serves_only_after_it_has_joined_read_the_map_strongly_and_corrected_its_copies():
    async with node_control() as control:
        control.put(0, "n1", 2)
        node = Participant(control, await store_with("fenced", 1))
        async with running(node):
            await until(lambda: node.serves)
    first = [told for told in control.asked if not told.startswith("renew")][:5]
    assert first == ["join", "keyspaces strong", "shards strong", "activate users/0", "serve"]


async def test_while_the_map_cannot_be_read_it_serves_nothing_though_its_lease_holds():
    async with node_control() as control:
        control.put(0, "n1", 1)
        control.map_read.clear()
        node = Participant(control, await store_with("serving", 1))
        async with running(node):
            await until(lambda: control.asked.count("renew 1") >= 3)
            assert not node.serves
            control.map_read.set()
            await until(lambda: node.serves)


async def test_a_fence_that_was_missed_while_the_lease_was_over_is_done_before_it_serves_again():
    """Invariant I5: without the comparison the source would go on acknowledging behind its fence."""
    async with node_control() as control:
        control.put(0, "n1", 1)
        node = Participant(control, await store_with("serving", 1))
        async with running(node):
            await until(lambda: node.serves)
            control.away = True
            await until(lambda: not node.serves)
            control.put(0, "n1", 1, fenced=True)
            control.map_read.clear()
            control.away = False
            renewed = len(control.asked)
            await until(lambda: "shards strong" in control.asked[renewed:])
            assert not node.serves
            assert node.disk[SHARD].state == "serving"
            control.map_read.set()
            await until(lambda: node.serves)
            assert node.disk[SHARD].state == "fenced"


async def test_a_commit_that_was_missed_is_known_before_it_serves_again():
    async with taking_part() as node:
        await node.store.open(SHARD, 1, ShardLimits(**LIMITS))
        node.control.put(0, "n2", 2)
        node.control.away = True
        await until(lambda: not node.serves)
        node.control.away = False
        await until(lambda: node.serves)
        assert node.disk[SHARD].owner == Location("n2", "n2:1")


async def test_renewals_that_fail_for_less_than_the_lease_cost_nothing():
    async with taking_part() as node:
        node.control.away = True
        asked = len(node.control.asked)
        await until(lambda: len(node.control.asked) > asked + 1)
        node.control.away = False
        await until(lambda: node.control.asked[-1] == "renew 1")
        await asyncio.sleep(LEASE / 2)
        assert node.serves
        assert node.control.asked.count("serve") == 1


async def test_who_was_held_for_lost_compares_again_before_it_serves():
    async with node_control() as control:
        control.put(0, "n1", 1)
        node = Participant(control, await store_with("serving", 1))
        async with running(node):
            await until(lambda: node.serves)
            control.renewal = "accepted"
            await until(lambda: control.asked.count("shards strong") == 2 and node.serves)


async def test_a_copy_that_the_map_cannot_explain_is_not_touched_and_nothing_is_served():
    async with node_control() as control:
        node = Participant(control, await store_with("serving", 1))
        async with running(node):
            await until(lambda: control.asked.count("shards strong") > 1)
            assert not node.serves
            assert node.disk[SHARD].state == "serving"
            control.put(0, "n1", 1)
            await until(lambda: node.serves)


async def test_it_ends_and_serves_nothing_once_another_process_has_joined_as_the_node():
    async with node_control() as control:
        node = Participant(control)
        async with running(node) as task:
            await until(lambda: node.serves)
            control.problem = "StaleIncarnation"
            with pytest.raises(StaleIncarnation):
                await task
            assert node.until == -math.inf


async def test_it_joins_again_when_it_was_removed_and_serves_nothing_in_between():
    async with taking_part() as node:
        told = len(node.control.asked)
        node.control.problem = "NodeNotFound"
        await until(lambda: len(node.control.joins) == 2)
        await until(lambda: "renew 2" in node.control.asked)
        assert "serve" in node.control.asked[told:]


async def test_a_store_that_its_id_does_not_belong_to_ends_it():
    async with node_control() as control:
        control.join_problem = "NodeTaken"
        with pytest.raises(NodeTaken):
            await Participant(control).agent.run()


async def test_cancelled_it_serves_nothing_and_leaves_no_task_behind():
    async with taking_part() as node:
        node.driver.goes_on.clear()
        node.control.want("m/prepare/1", "prepare")
        await until(lambda: "prepare users/0" in node.control.asked)
    assert node.until == -math.inf
    assert node.driver.now == 0


# Tasks


async def test_a_move_is_done_task_by_task_and_each_is_reported_with_its_extent():
    async with taking_part() as node:
        control, source = node.control, MemoryNode(Location("n0", "n0:1"), {}, node.network)
        await source.open(SHARD, 1, ShardLimits(**LIMITS))
        source.put(SHARD, "alice", b"one")
        from_ = {"epoch": 2, "source": {"node": "n0", "address": "n0:1"}, "bytes_per_second": None}
        for kind in ("prepare", "copy", "catch_up", "verify"):
            control.want(kind, kind, **from_)
            await until(lambda kind=kind: "done" in control.told(kind))  # type: ignore[misc]
            control.drop(kind)
        final = await source.fence(SHARD, 1)
        control.want("drain", "drain", **from_, final=_plain(final))
        await until(lambda: control.told("drain") == ["done"])
        control.want("activate", "activate", epoch=2, limits=LIMITS)
        await until(lambda: control.told("activate") == ["done"])
        assert node.store.get(SHARD, "alice") == b"one"
        results = {report["id"]: report["result"] for report in control.reports if report["outcome"] == "done"}
        assert results["drain"] == results["verify"] == {"extent": _plain(final)}
        assert results["prepare"] == {}


async def test_it_wants_to_be_told_what_is_wanted_now_and_not_what_a_controller_that_lags_still_knows():
    """A step of a move that has ended since would be done again, and nobody would clean up behind it."""
    async with taking_part() as node:
        await until(lambda: len(node.control.watched) == 1)
        node.control.break_off()
        await until(lambda: len(node.control.watched) == 2)
        assert node.control.watched == ["strong", "strong"]


async def test_an_owner_opens_fences_retires_and_drops():
    async with taking_part() as node:
        control = node.control
        control.want("open", "open", saga=None, limits=LIMITS)
        await until(lambda: control.told("open") == ["done"])
        control.want("fence", "fence")
        await until(lambda: control.told("fence") == ["done"])
        control.want("retire", "retire", epoch=2, owner={"node": "n2", "address": "n2:1"})
        await until(lambda: control.told("retire") == ["done"])
        assert node.disk[SHARD].owner == Location("n2", "n2:1")
        control.want("drop", "drop", saga=None)
        await until(lambda: control.told("drop") == ["done"])
        assert node.disk[SHARD].pairs is None


@pytest.mark.parametrize(
    ("kind", "name", "final"), [("fence", "ShardNotFound", True), ("drain", "ShardNotFound", True)]
)
async def test_what_no_other_try_mends_is_reported_as_final(kind: str, name: str, final: bool):
    async with taking_part() as node:
        node.control.want("t", kind, source={"node": "n0", "address": "n0:1"}, final=None)
        await until(lambda: node.control.told("t"))
        (report,) = node.control.reports
    assert (report["outcome"], report["final"]) == ("failed", final)
    assert report["error"].startswith(f"{name}: ")


async def test_what_may_go_better_next_time_is_reported_and_left_to_the_saga():
    async with taking_part() as node:
        node.driver.fails = [OSError("disk on fire")]
        node.control.want("t", "prepare")
        await until(lambda: node.control.told("t"))
        await asyncio.sleep(0.1)
        (report,) = node.control.reports
    assert (report["outcome"], report["final"], report["error"]) == ("failed", False, "OSError: disk on fire")


async def test_an_error_is_told_whatever_a_disk_has_put_into_its_text():
    async with taking_part() as node:
        node.driver.fails = [OSError("/data/\0: it burns")]
        node.control.want("t", "prepare")
        await until(lambda: node.control.told("t"))
        (report,) = node.control.reports
    assert report["error"] == "OSError: /data/\ufffd: it burns"


async def test_what_no_saga_counts_is_tried_again_here_until_it_is_done():
    async with taking_part() as node:
        node.driver.fails = [OSError("once"), OSError("twice")]
        node.control.want("open", "open", saga=None, limits=LIMITS)
        await until(lambda: node.control.told("open") == ["done"])


async def test_a_task_of_a_kind_that_is_unknown_here_fails_for_good():
    async with taking_part() as node:
        node.control.want("t", "defragment")
        await until(lambda: node.control.told("t") == ["failed"])
        assert node.control.reports[0]["final"]


async def test_a_task_that_is_wanted_no_more_is_cancelled_and_not_reported():
    async with taking_part() as node:
        node.driver.goes_on.clear()
        node.control.want("t", "prepare")
        await until(lambda: node.driver.now == 1)
        node.control.drop("t")
        await until(lambda: node.driver.now == 0)
        assert node.control.told("t") == []


async def test_a_task_with_other_parameters_is_begun_anew():
    async with taking_part() as node:
        node.driver.goes_on.clear()
        node.control.want("t", "prepare", epoch=2)
        await until(lambda: node.driver.now == 1)
        node.control.want("t", "prepare", epoch=3)
        await until(lambda: node.control.asked.count("prepare users/0") == 2)
        node.driver.goes_on.set()
        await until(lambda: node.control.told("t") == ["done"])
        assert (node.driver.most, node.disk[SHARD].epoch) == (1, 3)


async def test_tasks_of_one_shard_run_one_after_the_other_and_those_of_others_meanwhile():
    async with taking_part() as node:
        node.driver.goes_on.clear()
        for number in range(6):
            node.control.want(f"t{number}", "prepare", shard=number // 2)
        await until(lambda: node.driver.now == 3)
        await asyncio.sleep(0.1)
        node.driver.goes_on.set()
        await until(lambda: len(node.control.reports) == 6)
        assert node.driver.most == 3


async def test_only_so_many_tasks_run_at_a_time():
    async with taking_part(tasks_in_flight_max=2) as node:
        node.driver.goes_on.clear()
        for number in range(6):
            node.control.want(f"t{number}", "prepare", shard=number)
        await until(lambda: node.driver.now == 2)
        await asyncio.sleep(0.1)
        node.driver.goes_on.set()
        await until(lambda: len(node.control.reports) == 6)
        assert node.driver.most == 2


async def test_a_cut_over_does_not_wait_for_copies_of_other_shards():
    async with taking_part(pulls_in_flight_max=1) as node:
        node.driver.goes_on.clear()
        source = {"node": "n0", "address": "n0:1"}
        node.control.want("c0", "copy", shard=0, source=source)
        node.control.want("c1", "copy", shard=1, source=source)
        node.control.want("f2", "fence", shard=2)
        await until(lambda: node.driver.now == 2)
        assert {"fence users/2", "copy users/0"} <= set(node.control.asked)
        assert "copy users/1" not in node.control.asked


async def test_reports_that_are_ready_together_go_in_one_request_and_are_sent_until_heard():
    async with taking_part() as node:
        node.control.hears.clear()
        node.control.want("first", "prepare", shard=9)
        await asyncio.sleep(0.1)
        for number in range(8):
            node.control.want(f"t{number}", "prepare", shard=number)
        await until(lambda: len(node.disk) == 9)
        node.control.hears.set()
        await until(lambda: len(node.control.reports) == 9)
        assert max(node.control.batches) >= 8


async def test_reports_are_sent_again_until_they_were_heard():
    async with taking_part() as node:
        node.control.answers = ["NotReady", "unknown"]
        node.control.want("t", "prepare")
        await until(lambda: node.control.told("t") == ["done", "done", "done"])
        await asyncio.sleep(0.3)
        assert node.control.told("t") == ["done", "done", "done"]
        assert node.control.asked.count("prepare users/0") == 1


async def test_a_copy_under_way_tells_its_progress():
    async with taking_part() as node:
        source = MemoryNode(Location("n0", "n0:1"), {}, node.network)
        await source.open(SHARD, 1, ShardLimits())
        for number in range(300):
            source.put(SHARD, f"key-{number}", b"v" * 1_000)
        where = {"epoch": 2, "source": {"node": "n0", "address": "n0:1"}}
        node.control.want("prepare", "prepare", epoch=2)
        await until(lambda: node.control.told("prepare") == ["done"])
        node.control.want("copy", "copy", **where, bytes_per_second=200_000.0)
        await until(lambda: node.control.told("copy")[-1:] == ["done"])
        told = [report["result"] for report in node.control.reports if report["outcome"] == "progress"]
    assert 2 <= len(told) <= 5
    assert 0 < told[0]["bytes"] < told[-1]["bytes"] <= told[0]["bytes_total"]


async def test_tasks_go_on_while_the_controller_is_away_and_are_not_begun_twice():
    async with taking_part() as node:
        node.driver.goes_on.clear()
        node.control.want("t", "prepare")
        await until(lambda: node.driver.now == 1)
        node.control.break_off()
        await asyncio.sleep(0.2)
        node.driver.goes_on.set()
        await until(lambda: node.control.told("t") == ["done"])
        assert node.control.asked.count("prepare users/0") == 1


async def test_a_task_that_is_still_wanted_long_after_its_report_is_done_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("muster.agent.tasks.again_seconds", 0.1)
    async with taking_part() as node:
        node.control.want("t", "prepare")
        await until(lambda: node.control.told("t")[:2] == ["done", "done"])


def _plain(extent: Extent) -> dict[str, Any]:
    return {name: getattr(extent, name) for name in ("position", "digest", "records", "bytes")}
