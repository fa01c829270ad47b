"""Any read model by the client: its list, one row, and the watch of its rows."""

from dataclasses import dataclass

import pytest

from muster import Client, InstanceNotFound
from muster.wire.read_model import ReadModel
from tests.muster.client.scripted import answer, events, problem, wire


@dataclass(frozen=True)
class Lock:
    """A lock, as a read model of tomorrow might have it."""

    service: str
    lock: str
    held: bool


LOCKS = ReadModel(name="locks", item=Lock, key=("service", "lock"), filters=("held",), watched=True)


def row(lock: str, *, held: bool = True) -> dict[str, object]:
    return {"service": "orders", "lock": lock, "held": held}


async def test_a_list_is_asked_by_its_filters_and_read_as_its_items():
    listed = answer({"items": [row("a")], "token": "0:7", "age_seconds": 0.1})
    async with wire(listed) as server, Client(server.url) as client:
        page = await client.rows(LOCKS, held=True, holder=None)
    assert page.items == (Lock("orders", "a", True),)
    assert (page.token, page.age_seconds, page.parked) == ("0:7", 0.1, None)
    assert (server.seen[0].path, server.seen[0].query) == ("/v1/locks", {"held": "true"})


async def test_one_row_is_asked_by_its_key():
    async with wire(answer(row("a/b")), problem("InstanceNotFound", 404)) as server, Client(server.url) as client:
        assert await client.row(LOCKS, "orders", "a/b", consistency="strong") == Lock("orders", "a/b", True)
        with pytest.raises(InstanceNotFound):
            await client.row(LOCKS, "orders", "c")
    assert server.seen[0].query == {"consistency": "strong"}


async def test_a_watch_begins_with_all_rows_and_tells_those_that_change_and_go():
    told = events(
        ("0:1", "snapshot", {"items": [row("a"), row("b")], "token": "0:1"}),
        ("0:2", "delta", {"items": [row("a", held=False), row("c")], "gone": ["orders/b"]}),
        stay=True,
    )
    async with wire(told) as server, Client(server.url) as client:
        watch = client.watch_rows(LOCKS, service="orders")
        first, second = await anext(watch), await anext(watch)
        await watch.aclose()
    assert first.changed == (Lock("orders", "a", True), Lock("orders", "b", True))
    assert second.changed == (Lock("orders", "a", False), Lock("orders", "c", True))
    assert (first.gone, second.gone) == ((), ("orders/b",))
    assert (server.seen[0].path, server.seen[0].query) == ("/v1/watch/locks", {"service": "orders"})
