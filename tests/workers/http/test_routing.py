"""The table of routes: every path finds its row, and nothing else does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.http.conftest import Api
from workers.gateway import Gateway
from workers.http.application import Application, application
from workers.http.routing import Table
from workers.views.views import Views

GATEWAY = Gateway("", "", 1, Views([0]), {}, {}, status=dict, check_output=lambda stream, instance: {})
ROUTES = application(GATEWAY).routes
PATHS = sorted({route.path for route in ROUTES})
PARTS = sorted({part for path in PATHS for part in path.split("/") if part and "{" not in part})


def fits(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


@given(path=st.lists(st.sampled_from([*PARTS, "a"]), min_size=1, max_size=7).map(lambda parts: "/" + "/".join(parts)))
def test_a_path_is_found_if_a_template_fits_it_and_the_most_literal_one_wins(path: str) -> None:
    found = Table((route.method, route.path, route) for route in ROUTES).find(path)
    fitting = sorted((template.count("{"), template) for template in PATHS if fits(template, path))

    if found is None:
        assert not fitting
    else:
        place, parts = found
        assert {route.path for route in place.methods.values()} == {fitting[0][1]}
        for name, index in place.names.items():
            assert fitting[0][1].split("/")[index] == f"{{{name}}}"
            assert parts[index] == path.split("/")[index]


def test_every_route_is_found_by_its_own_path() -> None:
    table = Table((route.method, route.path, route) for route in ROUTES)
    for route in ROUTES:
        found = table.find(route.path)
        assert found is not None
        assert found[0].methods[route.method] is route


def test_a_second_row_for_a_method_and_a_path_is_refused() -> None:
    with pytest.raises(AssertionError, match="two rows for GET /v1/a"):
        Table([("GET", "/v1/a", 1), ("GET", "/v1/a", 2)])


@pytest.mark.parametrize("path", ["/healthz/", "/v1/keyspaces/?consistency=strong"])
async def test_a_slash_too_many_leads_to_the_route_without_it(api: Api, path: str) -> None:
    async with api.session.get(api.url + path, allow_redirects=False) as answer:
        assert answer.status == 307
        assert answer.headers["location"] == path.replace("/?", "?").rstrip("/")
    assert (await api.get(path)).status == 200


@pytest.mark.parametrize("path", ["/v1/services//instances/a", "/v1/keyspaces//shards"])
async def test_an_empty_name_is_no_name(api: Api, path: str) -> None:
    assert (await api.get(path)).problem == (422, "InvalidCommand")


def test_a_route_stands_in_the_metrics_from_the_start() -> None:
    app: Application = application(GATEWAY)
    assert set(app.metrics.requests) == {(route.path, route.method) for route in app.routes}


async def test_head_is_answered_as_get_without_the_body(api: Api) -> None:
    await api.register()
    for path in ("/healthz", "/metrics", "/v1/services", "/v1/discover/orders", "/v1/services/orders/instances/b"):
        head, whole = await api.ask("HEAD", path), await api.get(path)
        assert (head.status, head.headers["content-type"]) == (whole.status, whole.headers["content-type"]), path
        assert head.body in (b"", "", None)
    assert (await api.ask("HEAD", "/v1/watch")).status == 405


async def test_a_parameter_that_is_given_twice_is_refused_with_its_name(api: Api) -> None:
    told = await api.get("/v1/events?limit=1&limit=2")
    assert (told.problem, told.body["field"]) == ((422, "InvalidCommand"), "limit")
