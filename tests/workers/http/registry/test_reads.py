"""Reads over HTTP: what they answer, how current it is, and what they say of that."""

import asyncio

import pytest

from muster.wire.registry.answers import SERVICES
from tests.workers.http.conftest import INSTANCE, Api
from workers.http.model import InstanceList, InstanceWhole
from workers.http.registry.encoded import Encoded
from workers.views.table import Parked


async def test_an_instance_is_read_with_its_version_as_etag(api: Api) -> None:
    written = await api.register(tags=["blue"], checks=[{"kind": "tcp", "host": "10.0.0.7", "port": 1}])
    told = await api.get(INSTANCE)

    whole = InstanceWhole.model_validate(told.body)
    assert (whole.service, whole.instance, whole.tags) == ("orders", "a", ["blue"])
    assert told.headers["ETag"] == f'"{written.body["version"]}"'
    assert float(told.headers["Muster-Age"]) < 5


async def test_instances_are_filtered(api: Api) -> None:
    await api.register("a", tags=["blue"], zone="z1")
    await api.register("b", tags=["green"], zone="z1")
    await api.put("/v1/services/orders/instances/b/health", {"status": "unhealthy"})

    async def found(query: str) -> list[str]:
        told = InstanceList.model_validate((await api.get(f"/v1/services/orders/instances{query}")).body)
        return [item.instance for item in told.items]

    assert await found("") == ["a", "b"]
    assert await found("?zone=z1&health=unhealthy") == ["b"]
    assert await found("?tag=blue") == ["a"]
    assert await found("?tag=red") == []
    assert (await api.get("/v1/services/nobody/instances")).body["items"] == []
    assert (await api.get("/v1/services/orders/instances?health=fine")).problem == (422, "InvalidCommand")
    assert (await api.get("/v1/services/orders/instances?colour=red")).body["field"] == "colour"
    assert (await api.get("/v1/services/or%20ders/instances")).body["field"] == "service"


async def test_services_are_counted_by_health(api: Api) -> None:
    await api.register("a", "users")
    await api.register("a")
    await api.register("b", checks=[{"kind": "ttl", "ttl_seconds": 60}])

    told = SERVICES.page.validate_python((await api.get("/v1/services")).body)
    assert [(item.service, item.instances, item.healthy, item.unknown) for item in told.items] == [
        ("orders", 2, 1, 1),
        ("users", 1, 1, 0),
    ]


async def test_discovery_offers_only_what_can_take_traffic(api: Api) -> None:
    assert (await api.get("/v1/discover/orders")).problem == (404, "ServiceNotFound")
    await api.register("a")
    await api.register("b")

    async def found() -> list[str]:
        told = InstanceList.model_validate((await api.get("/v1/discover/orders")).body)
        return [item.instance for item in told.items]

    assert await found() == ["a", "b"]
    await api.put(f"{INSTANCE}/drain")
    assert await found() == ["b"]
    await api.put("/v1/services/orders/instances/b/health", {"status": "unhealthy"})
    told = await api.get("/v1/discover/orders")
    assert told.problem == (503, "NoHealthyInstances")
    assert told.headers["Retry-After"]
    await api.delete("/v1/services/orders/instances/b")
    await api.delete(INSTANCE)
    assert (await api.get("/v1/discover/orders")).problem == (404, "ServiceNotFound")


async def test_the_cache_of_encoded_services_is_bounded_and_stays_true(api: Api) -> None:
    views = api.gateway.views
    encoded = Encoded(views, bytes_max=2_500)
    views.listen(encoded.on_batch)
    for service in ("s1", "s2", "s3"):
        await api.register("a", service)
        assert b'"port":8080' in encoded.discoverable(service).groups[0][0]
    assert encoded.discoverable("s3") is encoded.discoverable("s3")
    first = encoded.discoverable("s1")

    await api.register("a", "s1", port=9)

    assert b'"port":8080' in first.groups[0][0]
    assert b'"port":9' in encoded.discoverable("s1").groups[0][0]
    assert encoded.bytes <= 2_500


async def test_a_session_waits_for_its_token_and_an_eventual_read_does_not(api: Api) -> None:
    written = await api.register()
    ahead = f"0:{written.body['position'] + 1}"
    path = "/v1/services/orders/instances?consistency=session&timeout_seconds=20"
    waiting = asyncio.create_task(api.get(path, Muster_Token=ahead))

    assert (await api.get("/v1/discover/orders", Muster_Token=ahead)).status == 200
    assert not waiting.done()
    await api.register("b")
    told = await waiting
    assert [item["instance"] for item in told.body["items"]] == ["a", "b"]


@pytest.mark.parametrize("path", [INSTANCE, "/v1/discover/orders", "/v1/services", "/v1/history/orders/a"])
async def test_every_read_takes_every_level(api: Api, path: str) -> None:
    written = await api.register()
    token = written.headers["Muster-Token"]

    for level in ("eventual", "session", "causal", "strong"):
        told = await api.get(f"{path}?consistency={level}", Muster_Token=token)
        assert told.status == 200
        assert told.headers["Muster-Token"] == token
    assert (await api.get(f"{path}?consistency=sometimes")).body["field"] == "consistency"
    late = await api.get(f"{path}?consistency=causal&timeout_seconds=0.01", Muster_Token="0:9999")
    assert late.problem == (504, "Timeout")
    other = await api.get(f"{path}?consistency=causal", Muster_Token="7:1")
    assert other.problem == (503, "NotReady")
    assert (await api.get(f"{path}?consistency=causal", Muster_Token="x")).problem == (422, "InvalidCommand")


async def test_a_strong_read_sees_what_was_acknowledged_before_it(api: Api) -> None:
    for number in range(20):
        await api.register(f"i{number}")
        told = await api.get("/v1/discover/orders?consistency=strong")
        assert len(told.body["items"]) == number + 1


async def test_a_parked_instance_is_not_answered_but_told(api: Api) -> None:
    written = await api.register()
    await api.register("b")
    views = api.gateway.views
    views.parked["instances", ("orders", "a")] = Parked(99, "it could not be folded")
    views.parked["services", ("orders",)] = Parked(99, "it could not be folded")

    told = await api.get(INSTANCE)
    assert told.problem == (503, "NotReady")
    assert "parked" in told.body["detail"]
    assert (told.body["position"], written.status) == (99, 200)
    assert (await api.get("/v1/services/orders/instances/b")).status == 200
    assert (await api.get("/v1/discover/orders")).body["parked"] == ["a"]
    assert (await api.get("/v1/services")).body["parked"] == ["orders"]
