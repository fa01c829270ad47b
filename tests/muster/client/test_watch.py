"""Watching: whatever breaks, every change comes once and in order."""

from contextlib import aclosing
from typing import Any

import orjson
import pytest

from muster import Appeared, Changed, Client, Removed, Snapshot, UnknownCheck
from muster.client.event_stream import EventParser
from muster.client.watch import Change, Follower, OutOfStep
from muster.wire.error import Unreachable
from tests.muster.client.scripted import events, hang_up, item, problem, wire


def snapshot(token: str, *items: dict[str, Any]) -> tuple[str, str, object]:
    return token, "snapshot", {"service": "orders", "items": list(items), "token": token}


def delta(token: str, *changes: dict[str, Any]) -> tuple[str, str, object]:
    return token, "delta", {"changes": list(changes)}


def put(instance: str, position: int, **fields: Any) -> dict[str, Any]:
    return {"op": "put", "item": item(instance, position, **fields)}


def patch(instance: str, position: int, **fields: Any) -> dict[str, Any]:
    where = {"service": "orders", "instance": instance, "version": position, "position": position}
    return {"op": "patch", **where, "set": fields}


def remove(instance: str, position: int, cause: str = "requested") -> dict[str, Any]:
    return {"op": "remove", "service": "orders", "instance": instance, "position": position, "cause": cause}


async def watched(client: Client, count: int) -> list[Change]:
    changes: list[Change] = []
    async with aclosing(client.watch("orders")) as watching:
        async for change in watching:
            changes.append(change)
            if len(changes) == count:
                break
    return changes


async def test_a_watch_begins_with_a_snapshot_and_then_tells_every_change_whole():
    told = (
        snapshot("0:1", item("a", 1)),
        delta("0:3", put("b", 2), patch("a", 3, health="unhealthy", cause="refused", discoverable=False)),
        delta("0:4", remove("a", 4, "lease_expired")),
    )
    async with wire(events(*told, stay=True)) as server, Client(server.url) as client:
        first, appeared, changed, removed = await watched(client, 4)
        assert client.token == "0:4"
    assert isinstance(first, Snapshot)
    assert isinstance(appeared, Appeared)
    assert isinstance(changed, Changed)
    assert isinstance(removed, Removed)
    assert [instance.instance for instance in first.instances] == ["a"]
    assert appeared.instance.instance == "b"
    assert (changed.before.health, changed.instance.health) == ("healthy", "unhealthy")
    assert changed.fields == {"health", "cause", "discoverable"}
    assert (changed.instance.version, changed.instance.port) == (3, 8080)
    assert (removed.cause, removed.instance.health) == ("lease_expired", "unhealthy")


async def test_a_broken_watch_goes_on_behind_the_last_event():
    script = (
        events(snapshot("0:1", item("a", 1)), delta("0:2", patch("a", 2, weight=2)), raw=b"id: 0:3\nevent: delta\nda"),
        problem("NotReady", 503),
        hang_up,
        events(delta("0:3", patch("a", 3, weight=3)), stay=True),
    )
    async with wire(*script) as server, Client(server.url) as client:
        changes = await watched(client, 3)
    assert [change.instance.weight for change in changes[1:] if isinstance(change, Changed)] == [2, 3]
    assert [seen.headers.get("last-event-id") for seen in server.seen] == [None, "0:2", "0:2", "0:2"]


async def test_a_watch_on_which_little_happens_goes_on_behind_the_last_heartbeat():
    script = (
        events(snapshot("0:1", item("a", 1)), raw=b": \nid: 0:7\n\n: a comment\n\n"),
        events(raw=b": nothing was missed\n\n: \nid: 0:9\n\n"),
        events(delta("0:10", patch("a", 2, weight=2)), stay=True),
    )
    async with wire(*script) as server, Client(server.url) as client:
        _, changed = await watched(client, 2)
    assert isinstance(changed, Changed)
    assert [seen.headers.get("last-event-id") for seen in server.seen] == [None, "0:7", "0:9"]


async def test_a_heartbeat_before_any_snapshot_is_nothing_to_resume_from():
    script = (events(raw=b": \nid: 0:7\n\n"), events(snapshot("0:9", item("a", 1)), stay=True))
    async with wire(*script) as server, Client(server.url) as client:
        await watched(client, 1)
    assert "last-event-id" not in server.seen[1].headers


async def test_what_is_told_twice_is_yielded_once():
    script = (
        events(snapshot("0:1", item("a", 1)), delta("0:2", patch("a", 2, weight=2))),
        events(delta("0:3", put("a", 2, weight=2), remove("b", 3), patch("a", 3, weight=3)), stay=True),
    )
    async with wire(*script) as server, Client(server.url) as client:
        changes = await watched(client, 3)
    assert [type(change) for change in changes] == [Snapshot, Changed, Changed]


async def test_after_a_reset_only_the_differences_are_yielded():
    script = (
        events(snapshot("0:3", item("a", 1), item("b", 2), item("c", 3))),
        events(
            ("", "reset", {}),
            snapshot("0:9", item("a", 1), item("b", 7, weight=5), item("d", 8)),
            stay=True,
        ),
    )
    async with wire(*script) as server, Client(server.url) as client:
        _, removed, changed, appeared = await watched(client, 4)
    assert isinstance(removed, Removed)
    assert isinstance(changed, Changed)
    assert isinstance(appeared, Appeared)
    assert (removed.instance.instance, removed.cause) == ("c", None)
    assert (changed.instance.instance, changed.fields) == ("b", {"weight"})
    assert appeared.instance.instance == "d"


async def test_after_a_reset_for_another_log_nothing_of_the_one_before_is_left():
    script = (
        events(snapshot("0:30@aaaaaaaa", item("a", 10), item("b", 20), item("c", 30))),
        events(
            ("", "reset", {"token": "0:3@bbbbbbbb", "reason": "other_log"}),
            snapshot("0:3@bbbbbbbb", item("a", 3)),
            delta("0:4@bbbbbbbb", patch("a", 4, weight=2)),
            stay=True,
        ),
    )
    async with wire(*script) as server, Client(server.url) as client:
        changes = await watched(client, 5)
        assert client.token == "0:4@bbbbbbbb"
    told = [(type(change), change.instance.instance) for change in changes[1:] if not isinstance(change, Snapshot)]
    # The positions of the new log are lower, and count all the same.
    assert told == [(Removed, "b"), (Removed, "c"), (Changed, "a"), (Changed, "a")]


async def test_a_reset_because_changes_are_not_kept_leaves_the_token_that_is_ahead():
    script = (
        events(("", "reset", {"token": "0:9@aaaaaaaa", "reason": "not_kept"}), snapshot("0:9@aaaaaaaa"), stay=True),
    )
    async with wire(*script) as server, Client(server.url) as client:
        client.observe("0:12@aaaaaaaa")
        await watched(client, 1)
        assert client.token == "0:12@aaaaaaaa"


async def test_a_watch_that_breaks_between_a_reset_and_its_snapshot_asks_for_the_snapshot_again():
    script = (
        events(snapshot("0:3", item("a", 1))),
        events(("0:9", "reset", {"token": "0:9"}), raw=b'id: 0:9\nevent: snapshot\ndata: {"items":['),
        events(snapshot("0:9", item("a", 1), item("b", 9)), stay=True),
    )
    async with wire(*script) as server, Client(server.url) as client:
        _, appeared = await watched(client, 2)
    assert isinstance(appeared, Appeared)
    assert "last-event-id" not in server.seen[2].headers


async def test_the_first_snapshot_holds_what_the_client_has_written():
    async with wire(events(snapshot("0:9"), stay=True)) as server, Client(server.url) as client:
        client.observe("0:9")
        await watched(client, 1)
    assert (server.seen[0].headers["muster-token"], server.seen[0].query["consistency"]) == ("0:9", "session")


async def test_a_patch_out_of_nowhere_makes_the_watch_begin_anew():
    script = (
        events(snapshot("0:1", item("a", 1)), delta("0:5", patch("z", 5, weight=2)), stay=True),
        events(snapshot("0:5", item("a", 1), item("z", 5, weight=2)), stay=True),
    )
    async with wire(*script) as server, Client(server.url) as client:
        _, appeared = await watched(client, 2)
    assert isinstance(appeared, Appeared)
    assert "last-event-id" not in server.seen[1].headers


async def test_a_controller_that_stays_away_ends_the_watch_when_asked_to():
    async with wire(events(snapshot("0:1"))) as server, Client(server.url) as client:
        watching = client.watch("orders", reconnect_seconds_max=0.2)
        assert isinstance(await anext(watching), Snapshot)
    with pytest.raises((Unreachable, RuntimeError)):
        await anext(watching)


def test_events_are_the_same_however_the_bytes_are_cut():
    wired = b": hello\n\nid: 0:1\nevent: snapshot\ndata: {}\n\n:\n\nid:0:2\nevent:delta\ndata:[1,\ndata: 2]\n\nevent: reset\n\n"
    expected = [("0:1", "snapshot", b"{}"), ("0:2", "delta", b"[1,\n2]"), ("0:2", "reset", b"")]
    for cut in range(len(wired)):
        parser = EventParser()
        assert [*parser.feed(wired[:cut]), *parser.feed(wired[cut:])] == expected
    parser = EventParser()
    assert [event for byte in wired for event in parser.feed(bytes([byte]))] == expected


def test_a_follower_refuses_a_patch_for_what_it_does_not_hold():
    with pytest.raises(OutOfStep):
        list(Follower().take("delta", orjson.dumps({"changes": [patch("a", 1)]}), "0:1"))


async def test_a_watch_goes_on_past_what_only_newer_controllers_know():
    of_tomorrow = {"kind": "smtp", "name": "mail", "host": "mx"}
    split = {"op": "split", "service": "orders", "instance": "a", "version": 3, "position": 3}
    script = (
        events(
            snapshot("0:1", item("a", 1, checks=[of_tomorrow])),
            ("0:1", "weather", {"rain": True}),
            delta("0:2", patch("a", 2, health="degraded")),
            delta("0:3", split),
        ),
        events(snapshot("0:3", item("a", 3, health="degraded", checks=[])), delta("0:4", remove("a", 4)), stay=True),
    )
    async with wire(*script) as server, Client(server.url) as client:
        first, degraded, unchecked, removed = await watched(client, 4)
    assert isinstance(first, Snapshot)
    assert first.instances[0].checks == (UnknownCheck("smtp", "mail", of_tomorrow),)
    assert isinstance(degraded, Changed)
    assert (degraded.instance.health, degraded.fields) == ("degraded", {"health"})
    assert isinstance(unchecked, Changed)
    assert unchecked.fields == {"checks"}
    assert isinstance(removed, Removed)


async def test_signs_that_nothing_was_missed_are_events_and_heartbeats_and_no_reset():
    script = (
        events(snapshot("0:1", item("a", 1)), raw=b": \nid: 0:7\n\n"),
        events(raw=b"id: 0:8\nevent: reset\n\n: \nid: 0:8\n\n"),
        events(snapshot("0:9", item("a", 1)), delta("0:10", patch("a", 2, weight=2)), stay=True),
    )
    heard: list[int] = []
    async with (
        wire(*script) as server,
        Client(server.url) as client,
        aclosing(client.watch("orders", heard=lambda: heard.append(len(server.seen)))) as watching,
    ):
        async for change in watching:
            if isinstance(change, Changed):
                break
    assert heard == [1, 1, 3, 3]
