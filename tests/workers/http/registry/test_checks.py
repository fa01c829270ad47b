"""What a controller takes of checks, by its settings, and what it says of those that it runs."""

from tests.workers.http.conftest import INSTANCE, SPEC, Api

HTTP = {"kind": "http", "url": "http://10.0.0.7:8080/health"}


async def test_a_check_that_asks_too_often_is_refused_by_every_way_in(api: Api):
    often = {**SPEC, "checks": [{"kind": "ttl", "ttl_seconds": 0.1}, {**HTTP, "interval_seconds": 0.9}]}
    told = await api.put(INSTANCE, often)
    assert told.problem == (422, "InvalidInstance")
    assert told.body["field"] == "checks.1.interval_seconds"
    command = {
        "type": "muster.instance.register.v1",
        "stream": "service/orders",
        "data": {"instance": "a", "spec": often},
    }
    told = await api.post("/v1/commands", {"commands": [{**command, "id": "1"}]})
    assert told.body["items"][0]["error"]["field"] == "checks.1.interval_seconds"
    assert (await api.register(checks=[{**HTTP, "interval_seconds": 1}])).status == 200


async def test_a_check_that_can_never_be_healthy_is_refused_with_its_field(api: Api):
    told = await api.register(checks=[{**HTTP, "headers": {"X-Bad": "a\r\nb"}}])
    assert told.problem == (422, "InvalidInstance")
    assert told.body["field"] == "checks.0.headers"
