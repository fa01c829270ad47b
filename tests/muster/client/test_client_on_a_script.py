"""The client against servers that misbehave: retries, deadlines, problems, tokens."""

import asyncio
import socket
import subprocess
import sys

import pytest

from domain.registry.service import Heartbeat
from muster import Client
from muster.client.controllers.known import backoff_seconds
from muster.wire.command import Envelope
from muster.wire.error import BY_NAME, InvalidCommand, MusterError, NotReady, OtherLog, Timeout, Unreachable
from muster.wire.problem import status_of
from muster.wire.registry.answers import DEREGISTERED
from tests.muster.client.scripted import answer, hang_up, item, problem, wire, written


async def test_a_transient_problem_is_tried_again_with_the_same_command_id():
    trouble = (problem("NotReady", 503), hang_up, problem("Timeout", 504))
    async with wire(*trouble, written()) as server, Client(server.url) as client:
        result = await client.register("orders", "a", "10.0.0.7", 8080)
    assert (result.status, result.position, result.incarnation) == ("accepted", 7, 0)
    assert len(server.seen) == 4
    assert len({seen.headers["idempotency-key"] for seen in server.seen}) == 1


async def test_two_commands_have_two_ids_and_a_given_id_is_used():
    async with wire(written()) as server, Client(server.url) as client:
        await client.drain("orders", "a")
        await client.drain("orders", "a")
        await client.drain("orders", "a", command_id="mine")
    first, second, third = (seen.headers["idempotency-key"] for seen in server.seen)
    assert first != second
    assert third == "mine"


async def test_a_refusal_is_not_tried_again():
    refused = problem("VersionConflict", 412, "at 9, not 3", actual=9)
    async with wire(refused) as server, Client(server.url) as client:
        with pytest.raises(BY_NAME["VersionConflict"], match="at 9, not 3") as caught:
            await client.deregister("orders", "a", expected_version=3)
    assert len(server.seen) == 1
    assert server.seen[0].headers["if-match"] == '"3"'
    assert caught.value.context == {"actual": 9}


@pytest.mark.parametrize("name", ["InvalidInstance", "ServiceNotFound", "TooLarge", "NoHealthyInstances", "Corrupt"])
async def test_every_problem_is_an_exception_of_its_name(name: str):
    async with wire(problem(name, status_of(BY_NAME[name]))) as server, Client(server.url) as client:
        with pytest.raises(BY_NAME[name]) as caught:
            await client.discover("orders")
    assert caught.value.name == name
    assert len(server.seen) == 1


async def test_an_unknown_problem_keeps_its_name_in_the_detail():
    async with wire(problem("FluxInverted", 422, "odd")) as server, Client(server.url) as client:
        with pytest.raises(MusterError, match="FluxInverted: odd"):
            await client.services()


async def test_when_no_controller_answers_it_is_unreachable():
    async with Client(f"http://127.0.0.1:{_free_port()}", timeout_seconds=0.2) as client:
        with pytest.raises(Unreachable):
            await client.heartbeat("orders", "a")
        with pytest.raises(Unreachable):
            await client.services()
        with pytest.raises(Unreachable):
            await anext(client.watch("orders"))


async def test_a_write_that_may_have_been_done_ends_in_timeout_with_its_command_id():
    async with wire(hang_up) as server, Client(server.url, timeout_seconds=1.0) as client:
        with pytest.raises(Timeout) as caught:
            await client.heartbeat("orders", "a", command_id="beat-1")
    assert caught.value.context["command_id"] == "beat-1"
    assert len(server.seen) > 1


async def test_once_a_write_may_have_been_done_a_later_refused_connection_does_not_hide_it():
    async with wire(hang_up, problem("NotReady", 503)) as server, Client(server.url, timeout_seconds=1.0) as client:
        with pytest.raises(Timeout):
            await client.heartbeat("orders", "a")


async def test_a_write_that_was_never_let_in_is_not_ready():
    async with (
        wire(problem("NotReady", 503, "recovering")) as server,
        Client(server.url, timeout_seconds=0.5) as client,
    ):
        with pytest.raises(NotReady, match="recovering"):
            await client.heartbeat("orders", "a")


async def test_a_silent_controller_is_given_up_at_the_deadline():
    async def silent(_: object) -> None:
        await asyncio.Event().wait()

    async with wire(silent) as server, Client(server.url, timeout_seconds=0.5) as client:  # type: ignore[arg-type]
        with pytest.raises(Unreachable):
            await client.services()


async def test_a_proxy_without_a_controller_behind_it_is_unreachable():
    async with wire(answer("<html>", 502)) as server, Client(server.url, timeout_seconds=1.0) as client:
        with pytest.raises(Unreachable, match="502"):
            await client.services()


async def test_reads_carry_the_newest_token_of_all_answers():
    page = answer({"items": [], "token": "0:3,1:9", "age_seconds": 0.1}, Muster_Token="0:3,1:9")
    async with wire(page, written(position=7), page) as server, Client(server.url) as client:
        await client.services()
        await client.drain("orders", "a")
        client.observe("2:4")
        await client.services()
        assert client.token == "0:7,1:9,2:4"
    first, _, last = server.seen
    assert "muster-token" not in first.headers
    assert (last.headers["muster-token"], last.query["consistency"]) == ("0:7,1:9,2:4", "session")


async def test_a_session_goes_on_in_another_log_and_says_so(caplog: pytest.LogCaptureFixture):
    page = answer({"items": [], "token": "0:2@bbbbbbbb", "age_seconds": 0.1}, Muster_Token="0:2@bbbbbbbb")
    async with wire(problem("OtherLog", 409, partition=0), page) as server, Client(server.url) as client:
        client.observe("0:9@aaaaaaaa,1:4@cccccccc")
        await client.services()
        assert client.token == "0:2@bbbbbbbb,1:4@cccccccc"
    assert [seen.headers["muster-token"] for seen in server.seen] == ["0:9@aaaaaaaa,1:4@cccccccc", "1:4@cccccccc"]
    assert "the log is another one than before" in caplog.text


async def test_who_asks_for_what_another_client_has_seen_is_told_that_it_is_gone_once():
    page = answer({"items": [], "token": "0:2@bbbbbbbb", "age_seconds": 0.1}, Muster_Token="0:2@bbbbbbbb")
    async with wire(problem("OtherLog", 409, partition=0), page) as server, Client(server.url) as client:
        client.observe("0:9@aaaaaaaa")
        with pytest.raises(OtherLog):
            await client.services(consistency="causal")
        await client.services(consistency="causal")
    assert "muster-token" not in server.seen[1].headers


async def test_an_eventual_read_waits_for_nothing_and_a_strong_one_says_so():
    page = answer({"items": [item("a", 4)], "token": "0:4", "age_seconds": 0.0}, Muster_Token="0:4")
    async with wire(page) as server, Client(server.url) as client:
        client.observe("0:2")
        await client.instances("orders", consistency="eventual", tag="blue")
        await client.discover("orders", consistency="strong")
    eventual, strong = server.seen
    assert eventual.query == {"tag": "blue"}
    assert "muster-token" not in eventual.headers
    assert strong.query == {"consistency": "strong"}


async def test_actor_and_reason_travel_and_may_be_in_any_script():
    async with wire(written()) as server, Client(server.url, actor="zoë@host") as client:
        await client.register("orders", "a", "10.0.0.7", 80, reason="größer")
        await client.set_maintenance("orders", "a", "disk")
        with pytest.raises(InvalidCommand):
            await client.deregister("orders", "a", reason="two\r\nlines")
    register, maintenance = server.seen
    raw = register.headers["muster-actor"].encode("utf-8", "surrogateescape").decode()
    assert raw == "zoë@host"
    assert maintenance.body == {"reason": "disk"}


async def test_a_repeat_is_marked():
    repeated = answer({"status": "accepted", "partition": 0, "position": 1}, Muster_Duplicate="true")
    async with wire(repeated) as server, Client(server.url) as client:
        assert (await client.drain("orders", "a", command_id="x")).duplicate


async def test_commands_without_an_outcome_are_given_again_and_the_order_is_kept():
    def outcome(id_: str, status: str, error: dict[str, object] | None = None) -> dict[str, object]:
        return {"id": id_, "status": status, "partition": 0, "position": 5, "error": error}

    late = {"name": "NotReady", "detail": "recovering", "status": 503}
    gone = {"name": "InstanceNotFound", "detail": "gone", "status": 404}
    first = answer({"items": [outcome("1", "accepted"), outcome("2", "unknown", late), outcome("3", "refused", gone)]})
    second = answer({"items": [outcome("2", "unchanged")]})
    beats = [Envelope(str(number), "service/orders", Heartbeat(instance="a")) for number in (1, 2, 3)]
    async with wire(first, second) as server, Client(server.url) as client:
        outcomes = await client.commands(beats)
    assert [(told.id, told.status) for told in outcomes] == [("1", "accepted"), ("2", "unchanged"), ("3", "refused")]
    assert [command["id"] for command in server.seen[1].body["commands"]] == ["2"]
    assert server.seen[0].body["commands"][0] == {
        "id": "1",
        "type": "muster.instance.heartbeat.v1",
        "stream": "service/orders",
        "data": {"instance": "a", "incarnation": None},
        "actor": "anonymous",
    }
    assert outcomes[1].written().status == "unchanged"
    with pytest.raises(BY_NAME["InstanceNotFound"]):
        outcomes[2].written()


def test_the_backoff_grows_to_a_second_and_is_never_nothing():
    assert all(0.025 <= backoff_seconds(0) <= 0.05 for _ in range(100))
    assert all(0.5 <= backoff_seconds(1000) <= 1.0 for _ in range(100))


def test_importing_muster_loads_nothing_of_the_server():
    code = (
        "import sys, muster; print('aiohttp' in sys.modules); muster.Client; print('aiohttp' in sys.modules); "
        "server = {'fastapi','starlette','uvicorn','asyncpg','eventsourcing','aiokafka','workers','infra',"
        "'projections','sagas','rich','click'}; "
        "print(sorted(server & {name.partition('.')[0] for name in sys.modules})); "
        "muster.KafkaCommands; print('aiokafka' in sys.modules, 'eventsourcing' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "False\nTrue\n[]\nTrue False\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_registration_returns_to_a_controller_that_has_never_heard_of_it():
    gone = problem("InstanceNotFound", 404)
    async with wire(written(), gone, gone, written(incarnation=3), written()) as server, Client(server.url) as client:
        async with client.registered("orders", "a", "10.0.0.7", 8080, lease_seconds=1.0) as registration:
            async with asyncio.timeout(10):
                while registration.incarnation != 3:  # noqa: ASYNC110 the registration has no event for it
                    await asyncio.sleep(0.01)
        assert not registration.lost.is_set()


async def test_a_registration_that_is_refused_on_its_return_is_lost():
    history = answer({"items": [ENDED], "count": 1, "token": "0:1", "age_seconds": 0.0})
    refused = problem("InvalidInstance", 422, "port: must be at least 1")
    script = (written(), problem("InstanceNotFound", 404), history, refused)
    async with wire(*script) as server, Client(server.url) as client:
        async with client.registered("orders", "a", "10.0.0.7", 8080, lease_seconds=1.0) as registration:
            async with asyncio.timeout(10):
                await registration.lost.wait()
        assert [seen.method for seen in server.seen] == ["PUT", "POST", "GET", "PUT"]


ENDED = {
    "position": 1,
    "at": "2026-01-01T00:00:00Z",
    "type": DEREGISTERED,
    "data": {"cause": "lease_expired"},
    "actor": None,
    "reason": None,
    "command_id": None,
    "version": 2,
}
