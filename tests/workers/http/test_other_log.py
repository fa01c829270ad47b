"""A token of another log: its folder was lost, or restored from a copy, and then written on. And of the same log, seen late."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.popo import POPOApplicationRecorder

from infra.log.codec import CloudEventMapper
from infra.log.recorder import RecorderLog
from muster.wire.error import OtherLog, Timeout
from muster.wire.token import parse_token
from tests.sample import register
from tests.workers.http.cluster import served
from tests.workers.http.conftest import INSTANCE, SPEC, Api, Told, controller
from tests.workers.writer.test_writer import Running, running
from workers.gateway import Gateway
from workers.http.exchange import Reading, Request
from workers.http.reading import Reader
from workers.http.watch.frames import Resumed
from workers.http.watch.stream import settled
from workers.machine.partition import Partition
from workers.views.views import Views
from workers.writer.log_follower import LogFollower
from workers.writer.writer import Writer

SESSION = "/v1/services/orders/instances?consistency=session&timeout_seconds=20"


async def resumed(api: Api, token: str, what: str = "?") -> list[tuple[str, Any]]:
    """What a watch tells first that goes on at the token: up to its snapshot, or its first delta."""
    told = []
    async with api.watch(f"{what}&after={token}") as stream:
        while not told or told[-1][0] == "reset":
            event, _, data = await stream.next()
            told.append((event, data))
    return told


def names(data: dict[str, Any]) -> list[str]:
    return [item["instance"] for item in data["items"]]


async def written(api: Api, *instances: str) -> str:
    """The token behind these registrations."""
    answers = [await api.register(instance) for instance in instances]
    return str(answers[-1].headers["Muster-Token"])


async def both_are_written(api: Api) -> None:
    """Every partition has its first term."""
    async with asyncio.timeout(30):
        while (await api.get("/readyz")).status != 200:  # noqa: ASYNC110 what is waited for has no event here
            await asyncio.sleep(0.01)


async def test_a_watcher_of_a_log_that_was_lost_begins_anew_though_the_new_one_is_longer(tmp_path: Path) -> None:
    async with controller(tmp_path / "a") as api:
        token = await written(api, "old0", "old1", "old2")
    async with controller(tmp_path / "b") as api:
        now = await written(api, *(f"new{number}" for number in range(9)))
        (reset, why), (event, picture) = await resumed(api, token)
    assert (reset, why) == ("reset", {"token": now, "reason": "other_log"})
    assert (event, names(picture)) == ("snapshot", [f"new{number}" for number in range(9)])


async def test_a_watcher_of_a_log_that_was_restored_and_written_on_resumes_only_from_what_both_have(
    tmp_path: Path,
) -> None:
    async with controller(tmp_path / "a") as api:
        shared = await written(api, "shared")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    async with controller(tmp_path / "a") as api:
        lost = await written(api, "lost0", "lost1", "lost2")
    async with controller(tmp_path / "b") as api:
        await written(api, "x0", "x1", "x2", "x3")
        ((event, delta),) = await resumed(api, shared)
        assert (event, [change["item"]["instance"] for change in delta["changes"]]) == (
            "delta",
            ["x0", "x1", "x2", "x3"],
        )
        (reset, why), (_, picture) = await resumed(api, lost)
    assert (reset, why["reason"]) == ("reset", "other_log")
    assert names(picture) == ["shared", "x0", "x1", "x2", "x3"]


@pytest.mark.parametrize("what", ["/shards?keyspace=users", "/tasks?node=n1", "/migrations?keyspace=users"])
async def test_so_does_a_watcher_of_rows_even_at_the_very_position(tmp_path: Path, what: str) -> None:
    async with controller(tmp_path / "a") as api:
        await served(api)
        token = api.gateway.views.token()
    async with controller(tmp_path / "b") as api:
        await served(api)
        position = parse_token(api.gateway.views.token())[0].position
        here = f"0:{position}@{token[-8:]}"
        (reset, why), (event, _) = await resumed(api, here, what)
    assert (reset, why["reason"], event) == ("reset", "other_log", "snapshot")


async def test_a_watcher_that_is_ahead_of_a_log_begins_anew(tmp_path: Path) -> None:
    async with controller(tmp_path / "a") as api:
        token = await written(api, *(f"old{number}" for number in range(9)))
    async with controller(tmp_path / "b") as api:
        await written(api, "new")
        (reset, why), (_, picture) = await resumed(api, token)
    assert (reset, why["reason"], names(picture)) == ("reset", "other_log", ["new"])


async def test_a_token_from_before_a_restart_is_of_the_same_log_with_a_snapshot_and_without(tmp_path: Path) -> None:
    async with controller(tmp_path / "a") as api:
        first = await written(api, "a")
        last = await written(api, "b")
    for new in ("with a snapshot", "without"):
        async with controller(tmp_path / "a") as api:
            assert (await api.get(SESSION, Muster_Token=first)).status == 200
            async with api.watch(f"?service=orders&after={last}") as stream:
                await api.register(new.replace(" ", "-"))
                assert (await stream.next())[0] == "delta"
            last = api.gateway.views.token()
        (tmp_path / "a" / "snapshots.sqlite").unlink()


async def test_at_a_log_without_history_a_watcher_of_another_one_begins_anew(tmp_path: Path) -> None:
    async with controller(tmp_path / "a", partitions=2) as api:
        token = await written(api, "old")
    async with controller(tmp_path / "b", partitions=2) as api:
        (reset, why), (_, picture) = await resumed(api, token)
    assert (reset, why["reason"], names(picture)) == ("reset", "other_log", [])


@pytest.mark.parametrize("level", ["session", "causal"])
@pytest.mark.parametrize("others", [1, 9])
async def test_a_read_that_wants_to_see_what_another_log_had_is_refused(
    tmp_path: Path, level: str, others: int
) -> None:
    async with controller(tmp_path / "a") as api:
        token = await written(api, "old0", "old1", "old2")
    async with controller(tmp_path / "b") as api:
        await written(api, *(f"new{number}" for number in range(others)))
        path = f"/v1/services/orders/instances?timeout_seconds=20&consistency={level}"
        told = await api.get(path, Muster_Token=token)
        assert told.problem == (409, "OtherLog")
        assert told.body["partition"] == 0
        for current in ("eventual", "strong"):
            page = await api.get(f"/v1/services/orders/instances?consistency={current}", Muster_Token=token)
            assert len(page.body["items"]) == others


async def test_a_first_watch_that_brings_another_logs_token_is_told_so_and_has_its_picture(tmp_path: Path) -> None:
    async with controller(tmp_path / "a") as api:
        token = await written(api, "old0", "old1", "old2")
    async with controller(tmp_path / "b") as api:
        await written(api, "new")
        async with api.watch("?consistency=session", Muster_Token=token) as stream:
            event, _, why = await stream.next()
            assert (event, why["reason"]) == ("reset", "other_log")
            assert names((await stream.next())[2]) == ["new"]


async def test_an_answer_to_a_write_carries_nothing_of_another_log_on(tmp_path: Path) -> None:
    async with controller(tmp_path / "a", partitions=2) as api:
        await both_are_written(api)
        await written(api, "old0", "old1", "old2")
        token = api.gateway.views.token()
    async with controller(tmp_path / "b", partitions=2) as api:
        await both_are_written(api)
        await written(api, *(f"new{number}" for number in range(9)))
        known = api.gateway.views.token()

        async def told(token: str) -> str:
            return str((await api.put(INSTANCE, SPEC, Muster_Token=token)).headers["Muster-Token"])

        before = parse_token(await told(known))
        assert before.keys() == parse_token(token).keys() == {0, 1}
        partition = api.gateway.partition_of("service/orders")
        assert parse_token(await told(token)) == {partition: before[partition]}


async def test_events_behind_a_page_of_another_log_are_refused(tmp_path: Path) -> None:
    async with controller(tmp_path / "a") as api:
        await written(api, "old0", "old1", "old2")
        page: Told = await api.get("/v1/events?newest=true")
        assert (await api.get(f"/v1/events?behind={page.body['behind']}")).body["items"] == []
    async with controller(tmp_path / "b") as api:
        await written(api, *(f"new{number}" for number in range(9)))
        assert (await api.get(f"/v1/events?behind={page.body['behind']}")).problem == (409, "OtherLog")


async def test_a_token_without_a_mark_is_judged_by_its_position_as_before(tmp_path: Path) -> None:
    async with controller(tmp_path) as api:
        await written(api, "a", "b")
        assert names((await api.get(SESSION, Muster_Token="0:2")).body) == ["a", "b"]
        ((event, delta),) = await resumed(api, "0:1")
        assert (event, len(delta["changes"])) == ("delta", 1)
        late = await api.get(SESSION.replace("20", "0.01"), Muster_Token="0:99")
        assert late.problem == (504, "Timeout")
        (reset, why), _ = await resumed(api, "0:99", "?timeout_seconds=0.01")
        assert (reset, why["reason"]) == ("reset", "not_kept")


class Proving:
    """The writer, and when it has proven its head."""

    def __init__(self, writer: Writer) -> None:
        self.submit, self.submit_all, self.knows = writer.submit, writer.submit_all, writer.knows
        self.proven = asyncio.Event()
        self._prove = writer.prove

    async def prove(self) -> int:
        head = await self._prove()
        self.proven.set()
        return head


class Late:
    """A controller that follows a log which another one writes, when it is let."""

    def __init__(self, writing: Running, log: RecorderLog) -> None:
        self.views = Views([0])
        self.follower = LogFollower(log, Partition(0, CloudEventMapper()), self.views)
        self.writer = Proving(writing.writer)
        gateway = Gateway("", "", 1, self.views, {0: self.writer}, {}, dict, lambda stream, instance: {})
        self.reader = Reader(gateway, lambda: None, 30.0)

    async def watched_from(self, token: str, seconds: float) -> Resumed:
        """Where a watch goes on that resumes at the token."""
        request = Request({"query_string": b"", "headers": []}, asyncio.Event().wait, asyncio.Event().wait)  # type: ignore[arg-type]
        return await settled(self.reader, request, Reading(timeout_seconds=seconds), token, (0,))


async def test_a_view_that_is_late_is_waited_for_and_never_taken_for_another_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.http.reading.late_seconds", 0.01)
    recorder = POPOApplicationRecorder()
    async with running(RecorderLog(recorder, 0)) as writing:
        await writing.reigns()
        late = Late(writing, RecorderLog(recorder, 0))
        await late.follower.read_to_end()
        await writing.execute(register("a"))
        token = parse_token(writing.views.token())
        assert token[0].term

        with pytest.raises(Timeout):
            await late.reader.reach(token, 0.2)
        # Nor is a watcher taken back to what the late view has: it goes on elsewhere, or comes again.
        with pytest.raises(Timeout):
            await late.watched_from(writing.views.token(), 0.2)

        late.writer.proven.clear()
        waiting = asyncio.create_task(late.reader.reach(token, 60.0))
        # Behind the proof the log is known to be as long as the token says, and only the view is late.
        await late.writer.proven.wait()
        await late.follower.read_to_end()
        await waiting
        assert await late.watched_from(writing.views.token(), 0.2) == writing.views.positions()
        assert late.views.token() == writing.views.token()

        beyond = {0: token[0]._replace(position=token[0].position + 1)}
        with pytest.raises(OtherLog, match="ends at"):
            await late.reader.reach(beyond, 60.0)
