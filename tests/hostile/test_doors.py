"""What a web page that an operator has open may do: nothing. What a strange client may do: no more than a proper one."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.settings import Settings
from workers.controller.process import Running, running
from workers.http.doors import Doors

SPEC = {"address": "10.0.0.7", "port": 80}
REGISTER = "muster.instance.register.v1"
COMMANDS = json.dumps([{"id": "c1", "type": REGISTER, "stream": "service/s", "data": {"instance": "a", "spec": SPEC}}])
JSON = "application/json"


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(Settings(data=tmp_path, http="127.0.0.1:0")) as found:
        yield found


async def told(controller: Running, head: str, body: str = "") -> tuple[int, dict[str, Any]]:
    """The status and the problem of a request as it stands in bytes; HOST is the controller's own address."""
    own = urlsplit(controller.url).netloc
    reader, writer = await asyncio.open_connection(*own.rsplit(":", 1))
    lines = [*head.replace("HOST", own).splitlines(), "Connection: close"]
    lines += [f"Content-Length: {len(body)}"] if body else []
    writer.write("\r\n".join([*lines, "", body]).encode())
    answer = await reader.read()
    writer.close()
    top, _, rest = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(rest)


async def registered(controller: Running) -> bool:
    _, services = await told(controller, "GET /v1/services?consistency=strong HTTP/1.1\nHost: HOST")
    return bool(services["items"])


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ("Host: HOST\nContent-Type: text/plain", (415, "NotJson")),
        ("Host: HOST\nContent-Type: application/x-www-form-urlencoded", (415, "NotJson")),
        ("Host: HOST", (415, "NotJson")),
        (f"Host: HOST\nContent-Type: {JSON}\nOrigin: https://evil.example", (403, "CrossSite")),
        (f"Host: HOST\nContent-Type: {JSON}\nOrigin: http://127.0.0.1:3000", (403, "CrossSite")),
        (f"Host: HOST\nContent-Type: {JSON}\nOrigin: null", (403, "CrossSite")),
        (f"Host: HOST\nContent-Type: {JSON}\nSec-Fetch-Site: cross-site", (403, "CrossSite")),
        (f"Host: HOST\nContent-Type: {JSON}\nSec-Fetch-Site: same-site", (403, "CrossSite")),
        (f"Host: HOST\nContent-Type: {JSON}\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate", (403, "CrossSite")),
        (f"Host: evil.example:8740\nContent-Type: {JSON}", (421, "ForeignHost")),
        (f"Host: evil.example\nOrigin: http://evil.example\nContent-Type: {JSON}", (421, "ForeignHost")),
        (f"Host: 127.0.0.1.evil.example\nContent-Type: {JSON}", (421, "ForeignHost")),
        (f"Host: [::1\nContent-Type: {JSON}", (421, "ForeignHost")),
        (f"Host: HOST\nContent-Type: {JSON}\nMuster-Cluster: another", (421, "WrongCluster")),
        (
            f"Host: HOST\nContent-Type: {JSON}\nMuster-Cluster: default\nMuster-Cluster: another",
            (400, "RepeatedHeader"),
        ),
        (f"Host: HOST\nContent-Type: {JSON}\nMuster-Actor: ann\nMuster-Actor: bob", (400, "RepeatedHeader")),
        (f"Host: HOST\nContent-Type: {JSON}\nIdempotency-Key: a\nIdempotency-Key: a", (400, "RepeatedHeader")),
        (f"Host: HOST\nContent-Type: {JSON}\nMuster-Check: 0", (403, "OfACheck")),
        (f"Host: HOST\nHost: HOST\nContent-Type: {JSON}", (400, "RepeatedHeader")),
    ],
)
async def test_a_request_that_may_not_come_in_changes_nothing(
    controller: Running, headers: str, refused: tuple[int, str]
) -> None:
    status, problem = await told(controller, f"POST /v1/commands HTTP/1.1\n{headers}", COMMANDS)
    assert (status, problem["type"]) == (refused[0], f"urn:muster:{refused[1]}")
    assert problem["detail"]
    assert not await registered(controller)


@pytest.mark.parametrize(
    "headers",
    [
        "Host: HOST",
        "Host: localhost:8740",
        "Host: LocalHost",
        "Host: [::1]:8740",
        "Host: 127.0.0.7",
        "Host: HOST\nOrigin: http://HOST\nSec-Fetch-Site: same-origin",
        "Host: HOST\nSec-Fetch-Site: none",
        "Host: HOST\nMuster-Cluster: default",
    ],
)
async def test_the_controllers_own_names_and_pages_come_in(controller: Running, headers: str) -> None:
    head = f"POST /v1/commands HTTP/1.1\n{headers}\nContent-Type: Application/JSON; charset=utf-8"
    status, _ = await told(controller, head, COMMANDS)
    assert status == 200
    assert await registered(controller)


async def test_a_link_to_a_controller_may_be_followed_and_a_foreign_page_may_not_read(controller: Running) -> None:
    link = "GET /v1/status HTTP/1.1\nHost: HOST\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: "
    assert (await told(controller, f"{link}navigate"))[0] == 200
    assert (await told(controller, f"{link}no-cors"))[0] == 403


async def test_a_controller_that_shares_no_log_has_no_routes_for_other_controllers(controller: Running) -> None:
    asked = {"id": "p", "type": "muster.shard.fence.v1", "stream": "keyspace/k", "data": {}}
    head = f"POST /v1/peer/execute HTTP/1.1\nHost: HOST\nContent-Type: {JSON}"
    status, problem = await told(controller, head, json.dumps(asked))
    assert (status, problem["type"]) == (404, "urn:muster:RouteNotFound")


def test_a_controller_has_the_name_that_it_gives_to_others() -> None:
    behind = Settings(http="127.0.0.1:8740", advertise="http://Muster.test:80").own_hosts
    assert Doors(behind).refusal("GET", [(b"host", b"muster.test")]) is None
    assert Doors(behind).refusal("GET", [(b"host", b"evil.example")]) is not None


async def test_a_read_that_means_another_cluster_is_told_which_one_this_is(controller: Running) -> None:
    status, problem = await told(controller, "GET /v1/services HTTP/1.1\nHost: HOST\nMuster-Cluster: other")
    assert (status, problem["cluster"]) == (421, "default")
    assert problem["detail"] == "this controller is of the cluster 'default', and 'other' is meant"
    refused = Doors(cluster="größer").refusal("GET", [(b"muster-cluster", b"\xff\x1b")])
    assert refused is not None
    assert b"\x1b" not in refused.body
    assert Doors(cluster="größer").refusal("GET", [(b"muster-cluster", "größer".encode())]) is None


def test_a_controller_that_listens_for_others_may_have_any_name() -> None:
    assert Settings(http="0.0.0.0:8740").own_hosts is None
    assert Doors(None).refusal("GET", [(b"host", b"muster.internal")]) is None


@pytest.mark.parametrize("actor", ["muster", "muster/checker"])
async def test_nobody_speaks_as_muster_itself(controller: Running, actor: str) -> None:
    head = f"DELETE /v1/services/s/instances/a HTTP/1.1\nHost: HOST\nMuster-Actor: {actor}"
    status, problem = await told(controller, head)
    assert (status, problem["field"]) == (422, "actor")


@pytest.mark.parametrize(
    "id_",
    [
        "report/keyspace/k/shard/0/open/1/n1/done",
        "expire/service/s/a/ttl/ttl@1",
        "check/service/s/a/tcp@4",
        "drain/n1/k/0/0",
        "keyspace/k/migration/1/fence/1",
        "muster.saga.observe.v1/keyspace/k@3",
        "prod.commands/3/17",
    ],
)
async def test_nobody_takes_the_ids_of_controllers(controller: Running, id_: str) -> None:
    head = f"PUT /v1/services/s/instances/a/drain HTTP/1.1\nHost: HOST\nIdempotency-Key: {id_}"
    status, problem = await told(controller, head)
    assert (status, problem["field"]) == (422, "Idempotency-Key")
    batch = COMMANDS.replace('"c1"', f'"{id_}"')
    head = f"POST /v1/commands HTTP/1.1\nHost: HOST\nContent-Type: {JSON}"
    _, answer = await told(controller, head, batch)
    [outcome] = answer["items"]
    assert (outcome["error"]["name"], outcome["error"]["field"]) == ("InvalidCommand", "id")
    assert not await registered(controller)


@pytest.mark.parametrize("token", ["٣:٤", "1_0:0", "-1:0", "0:-1", f"0:{'9' * 19}", "0:1:2", "+1:0"])
async def test_a_token_is_digits(controller: Running, token: str) -> None:
    head = f"GET /v1/services?consistency=session HTTP/1.1\nHost: HOST\nMuster-Token: {token}"
    status, problem = await told(controller, head)
    assert (status, problem["field"]) == (422, "token")


async def test_a_position_beyond_all_logs_is_refused(controller: Running) -> None:
    status, problem = await told(controller, f"GET /v1/events?after={10**29} HTTP/1.1\nHost: HOST")
    assert (status, problem["field"]) == (422, "after")


@pytest.mark.parametrize("path", ["a%2Fdrain", "a%2fdrain", "a%00"])
async def test_a_slash_within_a_name_makes_no_other_path(controller: Running, path: str) -> None:
    """A proxy that lets somebody write the instance `a%2Fdrain` has not let him drain."""
    status, problem = await told(controller, f"PUT /v1/services/s/instances/{path} HTTP/1.1\nHost: HOST")
    assert (status, problem["type"], problem["field"]) == (422, "urn:muster:InvalidCommand", "instance")


async def test_a_name_may_be_written_with_percents(controller: Running) -> None:
    head = f"PUT /v1/services/s/instances/%61%2Db HTTP/1.1\nHost: HOST\nContent-Type: {JSON}"
    status, _ = await told(controller, head, '{"address": "h", "port": 1}')
    assert status == 200
    status, _ = await told(controller, "GET /v1/services/s/instances/a-b?consistency=strong HTTP/1.1\nHost: HOST")
    assert status == 200
