"""The past over HTTP: events in order, an instance's history, and what is no history."""

from pathlib import Path

import pytest

from infra.log.chain import TERM_STARTED
from infra.log.port import Term
from tests.workers.http.conftest import INSTANCE, Api, controller
from workers.http.audit import events
from workers.http.audit.events import is_history
from workers.http.model import EventList, HistoryList
from workers.views.terms import Terms
from workers.views.views import Views


async def test_an_instances_history_says_what_when_who_and_why(api: Api) -> None:
    await api.register("other")
    await api.register()
    await api.register("other", port=9)
    await api.put(f"{INSTANCE}/drain", {"reason": "deploy"}, Muster_Actor="ann", Idempotency_Key="k-7")
    await api.delete(INSTANCE)

    told = HistoryList.model_validate((await api.get("/v1/history/orders/a")).body)
    assert told.count == 3
    assert [item.type.split(".")[2] for item in told.items] == ["registered", "drain_started", "deregistered"]
    drained = told.items[1]
    assert (drained.actor, drained.reason, drained.command_id) == ("ann", "deploy", "k-7")
    assert told.items[2].data["cause"] == "requested"


async def test_the_history_keeps_the_newest_events(api: Api) -> None:
    for port in range(1, 71):
        await api.register(port=port)
        await api.register("b", port=port)

    told = HistoryList.model_validate((await api.get("/v1/history/orders/a")).body)
    assert told.count == 70
    assert [item.data["port"] for item in told.items] == list(range(7, 71))


async def test_a_history_of_huge_events_has_the_newest_that_make_it_long_enough(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for port in range(1, 8):
        await api.register(port=port)
    monkeypatch.setattr(events, "page_bytes_max", 1_100)
    told = HistoryList.model_validate((await api.get("/v1/history/orders/a")).body)
    assert told.count == 7
    assert [item.data["port"] for item in told.items] in ([6, 7], [5, 6, 7])
    monkeypatch.setattr(events, "page_bytes_max", 1)
    told = HistoryList.model_validate((await api.get("/v1/history/orders/a")).body)
    assert [item.data["port"] for item in told.items] == [7]


async def test_an_instance_that_never_was_has_no_history(api: Api) -> None:
    assert (await api.get("/v1/history/orders/a")).problem == (404, "InstanceNotFound")
    assert (await api.get("/v1/history/orders/a%20b")).problem == (422, "InvalidCommand")


async def test_events_are_paged_by_position(api: Api) -> None:
    for number in range(5):
        await api.register(f"i{number}")
    first = EventList.model_validate((await api.get("/v1/events?limit=3")).body)
    rest = EventList.model_validate((await api.get(f"/v1/events?after={first.next_after}")).body)
    end = EventList.model_validate((await api.get(f"/v1/events?after={rest.next_after}")).body)

    assert [item.data["instance"] for item in first.items + rest.items] == [f"i{number}" for number in range(5)]
    assert (end.items, end.next_after) == ([], rest.next_after)
    assert first.items[0].stream == "service/orders"


async def test_events_are_filtered_by_stream_and_type(api: Api) -> None:
    await api.register("a")
    await api.register("a", "users")
    await api.register("a", port=9)

    async def found(query: str) -> list[int]:
        told = EventList.model_validate((await api.get(f"/v1/events?{query}")).body)
        return [item.position for item in told.items]

    assert await found("stream=service/orders") == [1, 3]
    assert await found("stream=service/orders&type=muster.instance.registered.v1") == [1]
    assert await found("type=muster.instance.registered.v1&limit=1&after=1") == [2]
    assert await found("type=registered&limit=1&after=1") == [2]
    assert await found("instance=a&stream=service/users") == [2]
    assert await found("instance=a&actor=anonymous") == [1, 2, 3]
    assert await found("actor=nobody") == []
    assert (await api.get("/v1/events?limit=0")).body["field"] == "limit"
    assert (await api.get("/v1/events?partition=9")).problem == (422, "InvalidCommand")


async def test_starts_of_terms_are_shown_only_when_asked_for(tmp_path: Path) -> None:
    async with controller(tmp_path) as api:
        await api.register()
    async with controller(tmp_path) as api:
        await api.register()
        assert [item["position"] for item in (await api.get("/v1/events")).body["items"]] == [1]
        told = EventList.model_validate((await api.get(f"/v1/events?type={TERM_STARTED}")).body)
        assert [item.data for item in told.items] == [{}, {}]


def test_only_the_reigning_terms_records_are_history() -> None:
    views = Views([0])
    views.terms[0] = Terms([Term(0, 1, "aaaaaaaa"), Term(5, 2, "bbbbbbbb")])

    def judged(position: int, term: int, type_: str = "muster.instance.registered.v1") -> bool:
        document = {"type": type_, "term": term, "time": "2026-01-01T00:00:00Z", "subject": "service/a"}
        return is_history(views, 0, position, document)

    assert judged(4, 1)
    assert judged(6, 2)
    assert not judged(6, 1)
    assert judged(5, 2, TERM_STARTED)
    assert not judged(6, 2, TERM_STARTED)
    # Others' documents, in a topic that they could write to.
    assert not is_history(views, 0, 4, {"term": 1})
