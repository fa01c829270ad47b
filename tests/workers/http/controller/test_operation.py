"""Operations over HTTP: status, readiness, metrics; problems for what is not there; the OpenAPI document."""

import gc
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from infra.sqlite.engine import open_embedded
from tests.sample import register
from tests.workers.http.conftest import INSTANCE, Api, ask, controller
from tests.workers.writer.test_writer import running
from workers.http.application import application, openapi_document
from workers.http.model import ProblemShape

KEYSPACE, NODE, MIGRATION = "/v1/keyspaces/{keyspace}", "/v1/nodes/{node}", "/v1/migrations/{keyspace}/{number}"
SAGA = "/v1/sagas/{kind}/{root}/{saga}/{number}"
_GROUP, _MEMBER = "/v1/groups/{group}", "/v1/groups/{group}/members/{member}"
GROUP_ROUTES = {
    ("post", "/v1/services/{service}/believe"),
    ("get", "/v1/traffic"),
    ("get", "/v1/watch/traffic"),
    ("get", "/v1/traffic/{service}"),
    ("put", "/v1/traffic/{service}"),
    ("get", "/v1/groups"),
    ("get", "/v1/watch/groups"),
    *((method, _GROUP) for method in ("get", "put", "delete")),
    *((method, f"{_GROUP}/pause") for method in ("put", "delete")),
    ("put", f"{_GROUP}/settings"),
    ("post", f"{_GROUP}/failover"),
    *((method, _MEMBER) for method in ("put", "delete")),
    *(
        ("post", f"{_MEMBER}/{verb}")
        for verb in ("join", "renew", "report", "ended", "fenced", "serving", "position", "in-sync")
    ),
}
SHARD_ROUTES = {
    *(("get", f"/v1/{what}") for what in ("keyspaces", "nodes", "cluster", "migrations", "sagas", "tasks")),
    *(("get", f"/v1/watch/{what}") for what in ("shards", "tasks", "migrations")),
    *(("get", f"{KEYSPACE}{what}") for what in ("", "/shards", "/route")),
    *(("put", f"{KEYSPACE}{what}") for what in ("", "/shards/{shard}/pin")),
    ("delete", f"{KEYSPACE}/shards/{{shard}}/pin"),
    *(("post", f"{KEYSPACE}/{what}") for what in ("assign", "moves")),
    *((method, f"{NODE}{what}") for what in ("", "/cordon", "/drain") for method in ("put", "delete")),
    ("get", NODE),
    *(("post", f"{NODE}/{what}") for what in ("renew", "loads")),
    ("put", "/v1/cluster/limits"),
    ("get", MIGRATION),
    ("get", SAGA),
    *(
        ("post", f"{saga}/{verb}")
        for saga in (MIGRATION, SAGA)
        for verb in ("pause", "resume", "retry", "skip", "abort", "force-complete", "upgrade")
    ),
    ("post", "/v1/tasks"),
}


async def test_status_is_the_controllers_own(api: Api) -> None:
    await api.register()
    told = await api.get("/v1/status")

    assert told.body["role"] == "writer"
    assert told.body["partitions"][0]["term"] == 1


async def test_a_controller_that_recovers_lives_but_is_not_ready(api: Api) -> None:
    await api.register()
    why: list[str] = ["reading the log, 40 % done; wait"]
    app = application(api.gateway, unready=lambda: why[0] if why else None)

    assert (await ask(app, "GET", "/healthz"))[0] == 200
    for path in ("/readyz", INSTANCE, "/v1/discover/orders", "/v1/services", "/v1/events", "/v1/watch"):
        status, headers, body = await ask(app, "GET", path)
        assert (status, headers[b"retry-after"]) == (503, b"1")
        problem = ProblemShape.model_validate_json(body)
        assert (problem.type, problem.detail) == ("urn:muster:NotReady", why[0])
    why.clear()
    assert (await ask(app, "GET", "/readyz"))[0] == 200
    assert (await api.get("/readyz")).status == 200


async def test_a_controller_that_takes_no_writes_answers_reads_and_is_not_ready(api: Api) -> None:
    await api.register()
    app = application(api.gateway, unwritten=lambda: "partition 5 takes no writes yet")

    status, _, body = await ask(app, "GET", "/readyz")
    assert (status, ProblemShape.model_validate_json(body).detail) == (503, "partition 5 takes no writes yet")
    assert (await ask(app, "GET", INSTANCE))[0] == 200


async def test_a_log_that_is_ahead_of_the_clock_makes_no_window_negative(tmp_path: Path) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    async with open_embedded(tmp_path, alone=True) as engine, running(engine.logs[0], clock=lambda: ahead) as told:
        await told.execute(register())
    async with controller(tmp_path) as api:
        await api.register()
        found = (await api.get("/v1/status")).body
        assert found["partitions"][0]["command_ids_window_seconds"] == 0.0
        assert 3_500 < found["partitions"][0]["log_ahead_seconds"] <= 3_600
        assert found["clock"] == {"jumps": 0, "last_jump_seconds": 0.0, "held_back_seconds": 0.0}
        assert b"muster_clock_jumps_total 0.0" in await (await api.session.get(f"{api.url}/metrics")).read()


async def test_a_stale_view_answers_and_says_so(api: Api) -> None:
    await api.register()
    app = application(api.gateway, stale_after_seconds=0.0)
    status, headers, _ = await ask(app, "GET", "/v1/discover/orders")

    assert (status, headers[b"muster-stale"]) == (200, b"true")
    assert "Muster-Stale" not in (await api.get("/v1/discover/orders")).headers


@pytest.mark.parametrize("path", ["/v1/nothing", "/", "/v1/services/orders/instances/a/b", "/v1/discover/a/b"])
async def test_what_is_not_there_is_a_problem(api: Api, path: str) -> None:
    assert (await api.get(path)).problem == (404, "RouteNotFound")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", INSTANCE, "DELETE, GET, HEAD, PUT"),
        ("GET", f"{INSTANCE}/health", "PUT"),
        ("PUT", "/v1/commands", "POST"),
        ("POST", "/v1/services", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_a_problem_that_names_the_right_ones(
    api: Api, method: str, path: str, allow: str
) -> None:
    told = await api.ask(method, path)

    assert told.problem == (405, "MethodNotAllowed")
    assert told.headers["Allow"] == allow


@pytest.mark.parametrize("path", [INSTANCE, "/v1/status"])
async def test_a_fault_of_ours_is_a_problem_and_is_logged(
    api: Api, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    await api.register()

    def fault(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    app = application(replace(api.gateway, check_output=fault, status=fault))
    status, _, body = await ask(app, "GET", path)

    assert status == 500
    assert ProblemShape.model_validate_json(body).type == "urn:muster:InternalError"
    assert "ZeroDivisionError" in caplog.text


async def test_metrics_count_requests_by_route_and_tell_of_the_views(api: Api) -> None:
    await api.register()
    await api.register(port=0)
    await api.get("/v1/services")
    gc.collect()
    told = await api.get("/metrics")
    text = told.body.decode()

    assert told.headers["content-type"].startswith("text/plain")
    route = 'route="/v1/services/{service}/instances/{instance}"'
    assert f'muster_http_requests_total{{method="PUT",{route},status="200"}} 1.0' in text
    assert f'muster_http_requests_total{{method="PUT",{route},status="422"}} 1.0' in text
    assert 'muster_http_requests_total{method="GET",route="/v1/services",status="200"} 1.0' in text
    assert f'muster_http_request_seconds_count{{method="PUT",{route}}} 2.0' in text
    assert 'muster_view_position{partition="0"} 1.0' in text
    assert 'muster_ids_window_seconds{partition="0"}' in text
    assert 'muster_void_records_total{partition="0"} 0.0' in text
    assert 'muster_commands_lost_total{partition="0"} 0.0' in text
    assert "muster_watchers 0.0" in text
    assert "muster_parked_rows 0.0" in text
    assert "_created" not in text
    found = re.search(r'muster_gc_pause_seconds_count\{generation="2"\} (\S+)', text)
    assert found is not None
    assert float(found[1]) >= 1


async def test_the_collector_is_left_alone_after_the_lifespan(api: Api) -> None:
    app = application(api.gateway)
    before = len(gc.callbacks)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="on", log_config=None))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.lifespan.startup()
    assert len(gc.callbacks) == before + 1
    await server.lifespan.shutdown()
    assert len(gc.callbacks) == before


async def test_the_document_has_every_route_with_its_models(api: Api) -> None:
    served = (await api.get("/openapi.json")).body

    assert served == openapi_document()
    routes = {(method, path) for path, methods in served["paths"].items() for method in methods}
    instance = "/v1/services/{service}/instances/{instance}"
    assert routes == {
        *(("put", f"{instance}{verb}") for verb in ("", "/health", "/maintenance", "/drain")),
        *(("delete", f"{instance}{verb}") for verb in ("", "/maintenance", "/drain")),
        ("get", instance),
        ("post", f"{instance}/heartbeat"),
        ("get", "/v1/services"),
        ("get", "/v1/services/{service}/instances"),
        ("get", "/v1/discover/{service}"),
        ("get", "/v1/watch"),
        ("get", "/v1/events"),
        ("get", "/v1/history/{service}/{instance}"),
        ("post", "/v1/commands"),
        ("post", "/v1/heartbeats"),
        ("post", "/v1/observations"),
        ("get", "/v1/loads"),
        ("get", "/v1/status"),
        ("get", "/v1/controllers"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
        *SHARD_ROUTES,
        *GROUP_ROUTES,
    }
    register = served["paths"][instance]["put"]
    body = register["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/Spec"}
    assert served["components"]["schemas"]["Spec"]["additionalProperties"] is False
    assert {parameter["name"] for parameter in register["parameters"]} >= {
        "Idempotency-Key",
        "If-Match",
        "Muster-Actor",
    }


async def test_a_read_takes_a_consistency_where_the_document_says_so_and_nowhere_else(api: Api) -> None:
    for path, methods in openapi_document()["paths"].items():
        if "get" not in methods or not path.startswith("/v1/") or "/watch" in path or path == "/v1/status":
            continue
        declared = [one["name"] for one in methods["get"]["parameters"] if one["in"] == "query"]
        needed = {"node": "0"} if path == "/v1/tasks" else {"key": "a"} if path.endswith("/route") else {}
        asked = re.sub(r"\{\w+\}", "0", path) + "?" + "&".join(f"{name}={value}" for name, value in needed.items())
        for name, value in (("consistency", "eventual"), ("timeout_seconds", "1")):
            answer = await api.get(f"{asked}&{name}={value}")
            assert (answer.status == 422) == (name not in declared), (path, name, answer.body)


async def test_every_reference_in_the_document_leads_somewhere() -> None:
    document = openapi_document()
    names = set(re.findall(r"#/components/schemas/(\w+)", str(document)))

    assert names <= document["components"]["schemas"].keys()
    operations = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(operations)) == len(operations)


async def test_a_body_that_never_ends_is_cut_off(api: Api) -> None:
    async def endless() -> Any:
        for _ in range(64):
            yield b"x" * 65_536

    try:
        async with api.session.put(
            f"{api.url}{INSTANCE}", data=endless(), headers={"Content-Type": "application/json"}
        ) as response:
            assert response.status == 413
    except aiohttp.ClientError:
        pass  # the connection may be closed before the answer is read


async def test_odd_methods_make_one_series(api: Api) -> None:
    for method in ("PROPFIND", "MKCOL", "GET"):
        assert (await api.ask(method, "/nowhere")).status == 404
    text = (await api.get("/metrics")).body.decode()

    assert 'muster_http_requests_total{method="other",route="(unknown)",status="404"} 2.0' in text
    assert 'muster_http_requests_total{method="GET",route="(unknown)",status="404"} 1.0' in text
    assert "PROPFIND" not in text
