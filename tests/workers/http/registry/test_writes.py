"""Writes over HTTP: every route, what they answer, and what they refuse."""

import asyncio

import pytest

from tests.workers.http.conftest import INSTANCE, SPEC, Api
from workers.http.model import OutcomeList, Written


async def test_a_registration_is_answered_with_its_place(api: Api) -> None:
    told = await api.put(INSTANCE, SPEC)

    assert told.status == 200
    assert Written.model_validate(told.body).status == "accepted"
    assert told.headers["Muster-Token"] == f"0:{api.gateway.views.place(0, told.body['position'])}"
    assert told.headers["ETag"] == f'"{told.body["version"]}"'


async def test_an_identical_registration_is_unchanged(api: Api) -> None:
    first = await api.put(INSTANCE, SPEC)
    again = await api.put(INSTANCE, SPEC)

    assert again.body == {**first.body, "status": "unchanged"}


async def test_a_repeat_with_the_same_key_gets_the_first_answer_marked(api: Api) -> None:
    first = await api.put(INSTANCE, SPEC, Idempotency_Key="k-1")
    await api.put(f"{INSTANCE}/health", {"status": "unhealthy"})
    again = await api.put(INSTANCE, SPEC, Idempotency_Key="k-1")

    assert again.body == first.body
    assert again.headers["Muster-Duplicate"] == "true"
    assert "Muster-Duplicate" not in first.headers


async def test_the_same_key_with_other_content_is_a_conflict(api: Api) -> None:
    await api.put(INSTANCE, SPEC, Idempotency_Key="k-1")
    told = await api.put(INSTANCE, {**SPEC, "port": 1}, Idempotency_Key="k-1")

    assert told.problem == (422, "IdempotencyConflict")


async def test_every_write_route_does_what_it_says(api: Api) -> None:
    await api.register(checks=[{"kind": "ttl", "ttl_seconds": 600}])

    assert (await api.put(f"{INSTANCE}/health", {"status": "healthy", "check": "ttl"})).status == 200
    assert (await api.get(INSTANCE)).body["discoverable"] is True
    assert (await api.post(f"{INSTANCE}/heartbeat")).body["status"] == "unchanged"
    assert (await api.put(f"{INSTANCE}/maintenance", {"reason": "disk"}, Muster_Actor="ann")).status == 200
    assert (await api.get(INSTANCE)).body["maintenance"].items() >= {("actor", "ann"), ("reason", "disk")}
    assert (await api.delete(f"{INSTANCE}/maintenance")).body["status"] == "accepted"
    assert (await api.put(f"{INSTANCE}/drain", Muster_Reason="deploy")).body["status"] == "accepted"
    assert (await api.get(INSTANCE)).body["draining"]["reason"] == "deploy"
    assert (await api.delete(f"{INSTANCE}/drain")).body["status"] == "accepted"
    assert (await api.delete(INSTANCE)).body["status"] == "accepted"
    assert (await api.delete(INSTANCE)).body["status"] == "unchanged"
    assert (await api.get(INSTANCE)).problem == (404, "ServiceNotFound")


async def test_an_expected_version_is_compared(api: Api) -> None:
    first = await api.put(INSTANCE, SPEC)
    stale = await api.put(INSTANCE, {**SPEC, "port": 1}, If_Match='"17"')
    fresh = await api.put(INSTANCE, {**SPEC, "port": 1}, If_Match=first.headers["ETag"])

    assert stale.problem == (412, "VersionConflict")
    assert stale.body["actual"] == first.body["version"]
    assert fresh.status == 200


async def test_a_stale_incarnation_is_refused(api: Api) -> None:
    first = await api.register()
    await api.delete(INSTANCE)
    second = await api.register()

    stale = first.body["incarnation"]
    assert second.body["incarnation"] != stale
    for told in (
        await api.put(f"{INSTANCE}/health", {"status": "unhealthy", "incarnation": stale}),
        await api.post(f"{INSTANCE}/heartbeat", {"incarnation": stale}),
        await api.delete(INSTANCE, {"incarnation": stale}),
    ):
        assert told.problem == (409, "StaleIncarnation")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"port": 1}, "address"),
        ({**SPEC, "port": 0}, "port"),
        ({**SPEC, "colour": "red"}, "colour"),
        ({**SPEC, "checks": [{"kind": "tcp", "host": "x"}]}, "checks.0.port"),
        ({**SPEC, "instance": "b"}, "instance"),
        (b'{"address": "x", "port": 1, "lease_seconds": NaN}', "body"),
    ],
)
async def test_a_registration_that_cannot_stand_names_the_field(api: Api, body: object, field: str) -> None:
    told = await api.put(INSTANCE, body)

    assert told.status == 422
    assert told.body["field"] == field
    assert told.problem[1] == ("InvalidCommand" if field == "body" else "InvalidInstance")


async def test_an_address_that_is_none_is_refused_in_words(api: Api) -> None:
    told = await api.put(INSTANCE, {**SPEC, "address": "[::1]"})
    assert told.body["detail"].endswith("must be a host name or an IP address, of IPv6 without brackets")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (f"{INSTANCE}/health", {"status": "fine"}, "status"),
        (f"{INSTANCE}/health", {"status": "healthy", "reason": "x"}, "reason"),
        (f"{INSTANCE}/health", {"status": "healthy", "instance": "b"}, "instance"),
        (f"{INSTANCE}/health", [1], "body"),
        (f"{INSTANCE}/health", b"{", "body"),
        (f"{INSTANCE}/health", b"[" * 100_000, "body"),
        (f"{INSTANCE}/health", b'{"a":' * 2_000, "body"),
        (f"{INSTANCE}/maintenance", {"reason": 7}, "reason"),
        (f"{INSTANCE}/drain", {"why": "x"}, "why"),
        ("/v1/services/or%20ders/instances/a", SPEC, "service"),
        ("/v1/services/orders/instances/-a", SPEC, "instance"),
        (f"{INSTANCE}?timeout=3", SPEC, "timeout"),
        (f"{INSTANCE}?timeout_seconds=3000", SPEC, "timeout_seconds"),
    ],
)
async def test_a_command_that_cannot_be_read_names_the_field(api: Api, path: str, body: object, field: str) -> None:
    told = await api.put(path, body)

    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Idempotency-Key", "k 1"),
        ("Idempotency-Key", "k" * 201),
        ("If-Match", '"*"'),
        ("Muster-Actor", "a" * 129),
        ("Muster-Reason", "r" * 1025),
        ("Muster-Token", "17"),
    ],
)
async def test_a_header_that_cannot_be_read_is_refused(api: Api, name: str, value: str) -> None:
    assert (await api.put(INSTANCE, SPEC, **{name: value})).problem == (422, "InvalidCommand")
    assert (await api.get("/v1/services")).body["items"] == []


async def test_a_name_in_another_script_is_kept_as_it_was_said(api: Api) -> None:
    await api.register()
    await api.put(f"{INSTANCE}/drain", {"reason": "Wärme"}, Muster_Actor="Zoë")

    draining = (await api.get(INSTANCE)).body["draining"]
    assert (draining["actor"], draining["reason"]) == ("Zoë", "Wärme")


async def test_a_body_over_the_limit_is_too_large(api: Api) -> None:
    told = await api.put(INSTANCE, b'{"address":"' + b"x" * 1_100_000)

    assert told.problem == (413, "TooLarge")


async def test_an_instance_that_is_not_there_is_told_apart_from_its_service(api: Api) -> None:
    assert (await api.post(f"{INSTANCE}/heartbeat")).problem == (404, "ServiceNotFound")
    await api.register("b")
    assert (await api.post(f"{INSTANCE}/heartbeat")).problem == (404, "InstanceNotFound")


async def test_a_token_handed_on_is_merged_into_the_answers(api: Api) -> None:
    told = await api.put(INSTANCE, SPEC, Muster_Token="0:900,3:17")

    assert told.headers["Muster-Token"] == "0:900,3:17"


async def test_a_write_with_a_timeout_is_answered_within_it(api: Api) -> None:
    assert (await api.put(f"{INSTANCE}?timeout_seconds=30", SPEC)).status == 200
    told = await api.put(f"{INSTANCE}?timeout_seconds=0", {**SPEC, "port": 9}, Idempotency_Key="k")
    assert told.problem == (504, "Timeout")
    assert told.body["command_id"] == "k"
    again = await api.put(INSTANCE, {**SPEC, "port": 9}, Idempotency_Key="k")
    assert again.status == 200


def heartbeat(name: str, instance: str = "a", **fields: object) -> dict[str, object]:
    command = {"id": name, "type": "muster.instance.heartbeat.v1", "stream": "service/orders"}
    return {**command, "data": {"instance": instance}, **fields}


def register(name: str, instance: str, **spec: object) -> dict[str, object]:
    data = {"instance": instance, "spec": {**SPEC, **spec}}
    return {"id": name, "type": "muster.instance.register.v1", "stream": "service/orders", "data": data}


async def test_a_batch_has_its_outcomes_in_order_and_one_bad_command_stops_no_other(api: Api) -> None:
    commands = [
        register("1", "a"),
        heartbeat("2", colour="red"),
        heartbeat("3", "gone"),
        "nonsense",
        heartbeat("5", expected_version=44),
        {**heartbeat("6"), "stream": "keyspace/orders"},
        register("7", "a", port=9),
    ]
    told = await api.post("/v1/commands", {"commands": commands})

    outcomes = OutcomeList.model_validate(told.body).items
    assert [outcome.id for outcome in outcomes] == ["1", "2", "3", "", "5", "6", "7"]
    names = [outcome.error["name"] if outcome.error else outcome.status for outcome in outcomes]
    assert names == [
        "accepted",
        "InvalidCommand",
        "InstanceNotFound",
        "InvalidCommand",
        "VersionConflict",
        "InvalidCommand",
        "accepted",
    ]
    assert told.headers["Muster-Token"] == f"0:{api.gateway.views.place(0, outcomes[-1].position)}"


async def test_a_batch_runs_in_its_order(api: Api) -> None:
    ports = list(range(1, 201))
    await api.post("/v1/commands", [register(f"r{port}", "a", port=port) for port in ports])

    events = (await api.get("/v1/events?limit=1000")).body["items"]
    assert [event["data"].get("port") or event["data"]["spec"]["port"] for event in events] == ports


async def test_a_repeated_batch_says_so(api: Api) -> None:
    await api.post("/v1/commands", [register("1", "a")])
    again = await api.post("/v1/commands", [register("1", "a")])

    assert again.body["items"][0]["duplicate"] is True


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"commands": 3}, (422, "InvalidCommand")),
        ({"commands": [], "more": 1}, (422, "InvalidCommand")),
        (b"[", (422, "InvalidCommand")),
        ([{}] * 1001, (413, "TooLarge")),
    ],
)
async def test_a_batch_that_is_none_is_refused(api: Api, body: object, problem: tuple[int, str]) -> None:
    assert (await api.post("/v1/commands", body)).problem == problem


async def test_many_writers_at_once_are_all_answered(api: Api) -> None:
    told = await asyncio.gather(*(api.register(f"i{number}") for number in range(100)))

    assert sorted(answer.body["position"] for answer in told) == list(range(1, 101))
