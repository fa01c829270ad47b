"""The watch hub alone: one encoding for all, bounded queues, and a bounded ring; fed by real views."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.message import Recorded
from domain.registry import service
from domain.registry.service import DeregisterInstance, RegisterInstance, ReportHealth, Service
from infra.log.port import START, Cursor
from muster.wire.command import Command
from muster.wire.error import NotReady
from muster.wire.registry.check import Health
from muster.wire.registry.spec import Spec
from workers.gateway import Gateway
from workers.http.exchange import Request
from workers.http.reading import Reader
from workers.http.registry import watch
from workers.http.registry.encoded import Encoded
from workers.http.registry.watch import Hub, Watching
from workers.http.watch import subscribers as audience
from workers.http.watch.subscribers import Audience, Subscriber
from workers.views.views import Views


class Log:
    """Decides commands and lets the views fold each one's events as a batch, as a writer does."""

    def __init__(self, partitions: int = 1, *, changes_max: int = watch.ring_changes_max, **queue_limits: int) -> None:
        self.views = Views(range(partitions))
        self.states: dict[str, Service] = {}
        self.encoded = Encoded(self.views)
        self.audience = Audience(self.views, **queue_limits)
        self.hub = Hub(self.views, self.encoded, self.audience, changes_max=changes_max)
        self.views.listen(self.encoded.on_batch)
        self.views.listen(self.hub.on_batch)

    def give(self, command: Command, name: str = "orders", partition: int = 0) -> str:
        """Record what the command makes happen; the token behind it."""
        state = self.states.get(name, service.INITIAL)
        position = self.views.cursors[partition].position
        folded = []
        for event in service.decide(command, state):
            position += 1
            at = datetime.now(UTC)
            recorded = Recorded(
                partition, position, f"service/{name}", state.version, at, event, "e", "c", None, "ann", None
            )
            state = service.evolve(state, recorded)
            folded.append((recorded, state.instances.get(event.instance)))
        self.states[name] = state
        self.views.apply(partition, folded, Cursor(position, position, START.head, 1, "w"))
        return self.views.token()

    def register(self, instance: str, name: str = "orders", partition: int = 0, **spec: Any) -> str:
        spec = {"address": "10.0.0.7", "port": 8080, **spec}
        return self.give(RegisterInstance(instance=instance, spec=Spec(**spec)), name, partition)

    def flip(self, instance: str, status: Health, name: str = "orders") -> str:
        return self.give(ReportHealth(instance=instance, status=status), name)


def queued(subscriber: Subscriber) -> list[bytes]:
    return [frame for frame, _ in subscriber._frames]


def whole(frames: Sequence[bytes] | Any) -> str:
    return b"".join(frames).decode()


async def test_one_flip_is_encoded_once_however_many_watch() -> None:
    log = Log()
    for number in range(10):
        log.register(f"i{number}", tags=("blue",), metadata={"zone": "z" * 100})
    ones = [log.hub.join("orders", None)[0] for _ in range(200)]
    everyone = [log.hub.join(None, None)[0] for _ in range(3)]
    others = log.hub.join("users", None)[0]
    log.flip("i3", "unhealthy")

    frames = [queued(one)[0] for one in ones]
    assert all(frame is frames[0] for frame in frames)
    assert all(queued(one)[0] is queued(everyone[0])[0] for one in everyone)
    assert log.audience.frames_total == 2
    assert queued(others) == []
    assert len(frames[0]) < 700


async def test_a_batch_of_many_services_is_one_frame_for_each_who_watches() -> None:
    log = Log(2)
    orders, everything = log.hub.join("orders", None)[0], log.hub.join(None, None)[0]
    log.register("a")
    log.register("b", "users", partition=1)

    assert len(queued(orders)) == 1
    assert whole(queued(everything)).count("event: delta") == 2
    assert whole(queued(everything)[1:]).startswith("id: 0:0,1:0\n")


async def test_a_slow_reader_is_cut_off_with_a_place_to_resume_from() -> None:
    log = Log(frames_max=3)
    token = log.register("a")
    subscriber, _ = log.hub.join("orders", None)
    statuses: tuple[Health, ...] = ("unhealthy", "healthy")
    for number in range(4):
        log.flip("a", statuses[number % 2])

    assert subscriber.cut
    assert queued(subscriber) == []
    assert subscriber.token == token
    assert (len(log.audience), log.audience.cut_total) == (0, 1)
    _, frames = log.hub.join("orders", {0: 0})
    assert whole(frames).count('"op":"patch"') == 4


async def test_the_queue_is_bounded_in_bytes_too() -> None:
    log = Log(bytes_max=2_000)
    subscriber, _ = log.hub.join("orders", None)
    log.register("a", metadata={"key": "x" * 2_000})

    assert subscriber.cut


async def test_a_reader_that_hangs_is_ended_after_a_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "cut_grace_seconds", 0.01)
    log = Log(frames_max=1)
    sent: list[Any] = []
    stuck = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 2:
            stuck.set()
            await asyncio.Event().wait()

    watching = asyncio.create_task(watched(log, send))
    await stuck.wait()
    log.register("a")
    log.register("b")
    await watching

    assert len(log.audience) == 0
    assert log.audience.cut_total == 1


async def test_a_reader_that_wakes_up_is_told_where_to_resume() -> None:
    log = Log(frames_max=1)
    token = log.register("a")
    sent: list[Any] = []
    stuck, go = asyncio.Event(), asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)
        if b'"token"' in message.get("body", b""):
            stuck.set()
            await go.wait()

    watching = asyncio.create_task(watched(log, send))
    await stuck.wait()
    log.register("b")
    log.register("c")
    go.set()
    await watching

    assert sent[-1] == {
        "type": "http.response.body",
        "body": b": cut off for reading too slowly; resume after %b\n\n" % token.encode(),
    }
    assert whole([message.get("body", b"") for message in sent]).count("id: ") == 1


async def watched(log: Log, send: Any) -> None:
    """The watch route over the log's hub, for a client that never leaves."""
    gateway = Gateway("", "", 1, log.views, {}, {}, dict, lambda stream, instance: {})
    scope = {"query_string": b"service=orders", "headers": []}
    request = Request(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]
    await Watching(Reader(gateway, lambda: None, 30.0), log.audience, log.hub).watch(request)


async def test_the_ring_covers_the_newest_changes_only() -> None:
    log = Log(changes_max=4)
    for number in range(6):
        log.register(f"i{number}")

    assert whole(log.hub.join("orders", {0: 1})[1]).count('"op":"put"') == 4
    assert "nothing was missed" in whole(log.hub.join("orders", {0: 5})[1])
    assert whole(log.hub.join("orders", {0: 0})[1]).startswith("event: reset\n")
    assert whole(log.hub.join("orders", {})[1]).startswith("event: reset\n")


async def test_a_token_resumes_in_every_partition_that_it_names() -> None:
    log = Log(2)
    log.register("a")
    token = {0: 0, 1: 0}
    log.register("b", "users", partition=1)
    log.register("c", "users", partition=1)

    assert whole(log.hub.join(None, token)[1]).count('"op"') == 1
    assert "nothing was missed" in whole(log.hub.join("orders", token)[1])
    assert "event: reset" in whole(log.hub.join(None, {0: 0, 1: 0, 2: 0})[1])


async def test_what_a_snapshot_held_is_not_in_the_ring() -> None:
    before, after = Log(), Log()
    before.register("a")
    before.register("b")
    # As a snapshotter restores: rows and cursor are put into the views, no batch is folded.
    after.views.instances = before.views.instances
    after.views.stand(0, before.views.cursors[0])
    after.states = before.states

    after.hub.restored()
    after.give(DeregisterInstance(instance="nobody"))
    assert "nothing was missed" in whole(after.hub.join(None, {0: 1})[1])
    assert "event: reset" in whole(after.hub.join(None, {0: 0})[1])
    after.register("c")
    assert whole(after.hub.join(None, {0: 1})[1]).count('"op"') == 1


async def test_a_restored_hub_that_was_not_told_so_resets_rather_than_leave_a_gap() -> None:
    before, after = Log(), Log()
    before.register("a")
    before.register("b")
    after.views.instances = before.views.instances
    after.views.stand(0, before.views.cursors[0])
    after.states = before.states
    after.register("c")

    assert "event: reset" in whole(after.hub.join(None, {0: 0})[1])


async def test_a_stopping_hub_ends_its_streams_and_takes_no_new_ones() -> None:
    log = Log()
    subscriber, _ = log.hub.join(None, None)
    log.register("a")
    log.audience.close()

    assert b"delta" in await subscriber.take()
    assert await subscriber.take() == b""
    with pytest.raises(NotReady):
        log.hub.join(None, None)


async def test_an_idle_watch_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "heartbeat_seconds", 0.01)
    log = Log()
    subscriber, _ = log.hub.join("orders", None)
    log.register("a", "users")

    assert await subscriber.take() == b": \nid: 0:0\n\n"
    assert await subscriber.take() == b": \nid: 0:0\n\n"
    assert subscriber.token == "0:0"
    log.audience.close()
