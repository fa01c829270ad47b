"""What a peer says over HTTP is raised here as the peer raised it, and told only once our own log has it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from eventsourcing.popo import POPOApplicationRecorder

from domain.catalogue import Answer
from infra.log.codec import CloudEventMapper
from infra.log.recorder import RecorderLog
from muster.wire.error import InstanceNotFound, MusterError, NotReady, StaleIncarnation, Timeout, VersionConflict
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from tests.sample import register
from tests.workers.peers.test_roll_call import KEY, OTHER_KEY, met
from workers.http.exchange import Reply, problem, problem_of
from workers.machine.partition import Partition
from workers.peers import forwarding as module
from workers.peers.credentials import PROOF_HEADER, Credentials
from workers.peers.forwarding import EXECUTE, EXECUTE_ALL, HEAR, Forwarding, Peers
from workers.peers.members import Member, Members
from workers.peers.strangers import Strangers
from workers.views.views import Views
from workers.writer.writer import Writer

OURS, THEIRS = (Credentials(KEY, roll) for roll in met("ours", "theirs"))


def proven(request: web.Request, reply: Reply) -> web.Response:
    proof = THEIRS.answer(request.headers[PROOF_HEADER], reply.status, reply.body)
    return web.Response(body=reply.body, status=reply.status, headers={PROOF_HEADER: proof})


@asynccontextmanager
async def peer(
    **handlers: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[Member, Peers]]:
    """A peer that answers so to what it is asked, and who asks it."""
    application = web.Application()
    for name, handler in handlers.items():
        paths = {"prove": "/v1/peer/prove/0", "execute": EXECUTE, "execute_all": EXECUTE_ALL, "hear": HEAR}
        application.router.add_post(paths.get(name, f"/{name}"), handler)
    async with TestServer(application) as server, Peers(OURS) as peers:
        yield Member("theirs", str(server.make_url("")).rstrip("/")), peers


async def raised_by_a_peer(reply: Reply) -> MusterError:
    """What asking a peer that answers so raises."""

    async def prove(request: web.Request) -> web.Response:
        return proven(request, reply)

    async with peer(prove=prove) as (member, peers):
        with pytest.raises(MusterError) as caught:
            await peers.prove(member, 0)
    return caught.value


async def test_an_error_of_a_peer_keeps_its_facts() -> None:
    error = await raised_by_a_peer(problem_of(VersionConflict("it is at 9", actual=9)))
    assert (type(error), error.detail, error.context) == (VersionConflict, "it is at 9", {"actual": 9})


async def test_what_only_a_newer_peer_knows_is_tried_again() -> None:
    odd = problem({"name": "FluxInverted", "detail": "odd", "status": 409})
    assert type(await raised_by_a_peer(odd)) is NotReady


@pytest.mark.parametrize("proof", [None, "", "0" * 64, "another key", "another body"])
@pytest.mark.parametrize("status", [200, 409])
async def test_an_answer_that_is_not_proven_says_nothing(proof: str | None, status: int) -> None:
    async def prove(request: web.Request) -> web.Response:
        asked, body = request.headers[PROOF_HEADER], problem_of(VersionConflict("no")).body
        made = {
            "another key": Credentials(OTHER_KEY, THEIRS.roll).answer(asked, status, body),
            "another body": THEIRS.answer(asked, status, b"{}"),
        }
        said = made.get(proof or "", proof)
        return web.Response(body=body, status=status, headers={} if said is None else {PROOF_HEADER: said})

    async with peer(prove=prove) as (member, peers):
        with pytest.raises(Timeout, match="is not proven to be the answer of theirs: the outcome is not known"):
            await peers.prove(member, 0)


async def test_a_redirect_is_not_followed_with_a_command_in_hand() -> None:
    taken: list[str] = []

    async def away(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/taken")

    async def take(request: web.Request) -> web.Response:
        taken.append(request.path)
        return proven(request, Reply(b'{"position": 9}'))

    async with peer(prove=away, taken=take) as (member, peers):
        with pytest.raises(Timeout, match="not proven"):
            await peers.prove(member, 0)
    assert taken == []


class Here:
    """This controller, which follows a partition that a peer writes, and the writer of the same log that the peer has."""

    def __init__(self, member: Member, peers: Peers) -> None:
        recorder = POPOApplicationRecorder()
        self.views, self.members = Views([0]), Members(Member("ours", "http://ours"))
        self.writer, self.elsewhere = (
            Writer(RecorderLog(recorder, 0), Partition(0, CloudEventMapper()), views, name=name, wanted=wanted)
            for name, views, wanted in (("ours", self.views, lambda: False), ("theirs", Views([0]), lambda: True))
        )
        for one, ready in ((self.members.self_, False), (member, True)):
            self.members.heard(one, 100.0, ready=ready)
        self.lists = 0
        strangers = Strangers(OURS.roll)
        self.forwarding = Forwarding(self.writer, self.members, strangers, peers, self.views)


@asynccontextmanager
async def follower_of(tell: Callable[[Here, Answer], Awaitable[Answer]], *, lists: bool = False) -> AsyncIterator[Here]:
    """A follower of a peer that decides what it is asked, and answers what `tell` makes of that; `lists`: it takes lists too."""
    found: list[Here] = []

    async def told(here: Here, command: dict[str, str]) -> dict[str, object]:
        return asdict(await tell(here, Answer(command["id"], "accepted", 0, 1)))

    async def execute(request: web.Request) -> web.Response:
        [here] = found
        return proven(request, Reply(orjson.dumps(await told(here, orjson.loads(await request.read())))))

    async def execute_all(request: web.Request) -> web.Response:
        [here] = found
        here.lists += 1
        replies = [{"answer": await told(here, command)} for command in orjson.loads(await request.read())]
        return proven(request, Reply(orjson.dumps(replies)))

    handlers = {"execute": execute, "execute_all": execute_all} if lists else {"execute": execute}
    async with peer(**handlers) as (member, peers):
        here = Here(member, peers)
        found.append(here)
        running = [asyncio.create_task(one.run()) for one in (here.writer, here.elsewhere)]
        try:
            await here.writer.recovered.wait()
            yield here
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


COMMAND = register("a", "c1")


async def test_what_a_peer_has_recorded_is_told_once_our_own_view_has_it() -> None:
    async def record(here: Here, _: Answer) -> Answer:
        return await here.elsewhere.execute(COMMAND)

    async with follower_of(record) as here:
        answer = await here.forwarding.submit(COMMAND)
        assert answer.status == "accepted"
        assert here.views.cursors[0].position >= answer.position
        assert here.forwarding.knows("c1")
        [again] = await here.forwarding.submit_all([COMMAND])
        assert isinstance(again, Answer)
        assert again.duplicate


async def test_what_our_own_log_does_not_come_to_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "confirm_seconds_max", 0.2)

    async def lie(_: Here, answer: Answer) -> Answer:
        return answer

    async with follower_of(lie) as here:
        with pytest.raises(Timeout, match="is accepted, and this controller has not read position 1 of"):
            await here.forwarding.submit(COMMAND)
        [reply] = await here.forwarding.submit_all([COMMAND])
        assert isinstance(reply, Timeout)


async def test_what_our_own_log_does_not_have_is_not_told() -> None:
    async def record_another(here: Here, answer: Answer) -> Answer:
        other = await here.elsewhere.execute(register("b", "c2"))
        return Answer(answer.id, "accepted", 0, other.position)

    async with follower_of(record_another) as here:
        with pytest.raises(Timeout, match="the log of partition 0 does not have it: its outcome is not known"):
            await here.forwarding.submit(COMMAND)


LIST = [register("a", "c1"), register("b", "c2"), register("c", "c3")]


@pytest.mark.parametrize("lists", [True, False])
async def test_a_list_is_answered_in_its_order_also_by_a_peer_that_takes_one_command_at_a_time(lists: bool) -> None:
    async def record(here: Here, answer: Answer) -> Answer:
        return await here.elsewhere.execute(next(one for one in LIST if one.id == answer.id))

    async with follower_of(record, lists=lists) as here:
        replies = await here.forwarding.submit_all(LIST)
        assert [reply.id for reply in replies if isinstance(reply, Answer)] == ["c1", "c2", "c3"]
        assert here.lists == (1 if lists else 0)


async def test_of_a_list_only_what_our_own_log_has_is_told() -> None:
    async def record_some(here: Here, answer: Answer) -> Answer:
        if answer.id == "c2":
            return Answer("c2", "accepted", 0, 1)
        return await here.elsewhere.execute(next(one for one in LIST if one.id == answer.id))

    async with follower_of(record_some, lists=True) as here:
        first, second, third = await here.forwarding.submit_all(LIST)
        assert isinstance(first, Answer)
        assert isinstance(second, Timeout)
        assert "does not have it" in second.detail
        assert isinstance(third, Answer)


async def test_of_a_list_what_our_own_log_does_not_come_to_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "confirm_seconds_max", 0.2)

    async def boast(here: Here, answer: Answer) -> Answer:
        if answer.id == "c3":
            return Answer("c3", "unchanged", 0, 99)
        return await here.elsewhere.execute(next(one for one in LIST if one.id == answer.id))

    async with follower_of(boast, lists=True) as here:
        first, _, third = await here.forwarding.submit_all(LIST)
        assert isinstance(first, Answer)
        assert isinstance(third, Timeout)


async def test_a_long_list_goes_in_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "forward_bytes_max", 300)

    async def record(here: Here, answer: Answer) -> Answer:
        return await here.elsewhere.execute(next(one for one in LIST if one.id == answer.id))

    async with follower_of(record, lists=True) as here:
        replies = await here.forwarding.submit_all(LIST)
        assert [reply.id for reply in replies if isinstance(reply, Answer)] == ["c1", "c2", "c3"]
        assert here.lists == 3


@pytest.mark.parametrize("status", [200, 409, 500])
async def test_a_list_that_is_answered_without_a_proof_has_no_known_outcome(status: int) -> None:
    async def execute_all(request: web.Request) -> web.Response:
        return web.Response(body=b"[]", status=status)

    async with peer(execute_all=execute_all) as (member, peers):
        replies = await peers.execute_all(member, LIST)
    assert [type(reply) for reply in replies] == [Timeout] * 3


BEATS = [
    Heartbeats("host-7", "orders", [Beat("a", 0), Beat("b", 3)]),
    Heartbeats("host-7", "orders", [Beat("a", 0, 12.0)]),
]


async def test_heartbeats_are_passed_on_and_each_refusal_comes_back() -> None:
    async def hear(request: web.Request) -> web.Response:
        assert orjson.loads(await request.read()) == [
            {"agent": "host-7", "service": "orders", "items": [["a", 0], ["b", 3]]},
            {"agent": "host-7", "service": "orders", "items": [["a", 0, 12.0]]},
        ]
        refusal = {"name": "StaleIncarnation", "detail": "b is at incarnation 4", "status": 409, "incarnation": 4}
        return proven(request, Reply(orjson.dumps([[["b", refusal]], []])))

    async with peer(hear=hear) as (member, peers):
        [[(instance, error)], none] = await peers.hear(member, BEATS)
    assert (instance, type(error), error.context["incarnation"], none) == ("b", StaleIncarnation, 4, [])


async def test_a_peer_that_takes_no_heartbeats_in_messages_is_given_commands() -> None:
    given: list[str] = []

    async def execute_all(request: web.Request) -> web.Response:
        commands = orjson.loads(await request.read())
        given.extend(f"{one['type']} {one['data']['instance']} {one['data']['incarnation']}" for one in commands)
        refusal = {"name": "InstanceNotFound", "detail": "gone", "status": 404}
        answers = [
            Answer(one["id"], "refused", 0, 5, error=refusal)
            if one["data"]["instance"] == "b"
            else Answer(one["id"], "unchanged", 0, 5)
            for one in commands
        ]
        return proven(request, Reply(orjson.dumps([{"answer": asdict(answer)} for answer in answers])))

    async with peer(execute_all=execute_all) as (member, peers):
        [[(instance, error)], none] = await peers.hear(member, BEATS)
    assert (instance, type(error), none) == ("b", InstanceNotFound, [])
    assert given == [f"muster.instance.heartbeat.v1 {name}" for name in ("a 0", "b 3", "a 0")]


async def test_heartbeats_that_are_answered_without_a_proof_are_not_taken_as_heard() -> None:
    async def hear(_: web.Request) -> web.Response:
        return web.Response(body=b"[[], []]")

    async with peer(hear=hear) as (member, peers):
        with pytest.raises(Timeout):
            await peers.hear(member, BEATS)


async def test_heartbeats_go_to_whoever_writes_the_partition() -> None:
    async def record(here: Here, answer: Answer) -> Answer:
        return answer

    async with follower_of(record, lists=True) as here:
        # The peer says of all commands that they were accepted.
        assert await here.forwarding.hear(BEATS) == [[], []]
        assert here.lists == 2
