"""A command is refused or taken in the same way, whether it comes by its own route or by `POST /v1/commands`.

Each example builds the same state twice, in two controllers of one partition; one is asked by the verb, the other by the batch.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from eventsourcing.popo import POPOApplicationRecorder
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.example import COMMANDS as EXAMPLES
from domain.catalogue import COMMANDS, KIND_OF
from domain.groups.commands import CreateGroup, Failover, NewMember
from domain.groups.member import JoinGroup, ReportMember
from domain.registry.service import DeregisterInstance, Heartbeat, RegisterInstance, SetMaintenance
from domain.registry.silence import ReportSilence
from domain.saga import PauseSaga, ReportProgress, ReportStep
from domain.shards.keyspace import CreateKeyspace, MoveShard, PinShard, ReportDropped, ReportOpened
from domain.shards.node import CordonNode, DrainNode, ExpireNode, JoinNode, RemoveNode
from infra.log.recorder import RecorderLog
from muster.wire.command import Command, Envelope
from tests.workers.writer.test_writer import Running, running
from workers.gateway import Gateway
from workers.http.application import Application, application
from workers.http.routing import Route

REPORTED = {ReportOpened, ReportDropped, ReportStep, ReportProgress, ReportSilence}
"""Commands that `POST /v1/tasks` makes of the reports of data nodes, and that of telemetry; none has a route of its own."""

NODES = ("n1", "n2", "n3")
STREAM_OF = {
    "service": "service/s",
    "keyspace": "keyspace/k",
    "cluster": "cluster",
    "group": "group/g",
    "traffic": "traffic/s",
    "saga": "keyspace/k/migration/1",
}
PATH = {
    "service": "s",
    "keyspace": "k",
    "group": "g",
    "number": "1",
    "kind": "keyspace",
    "root": "k",
    "saga": "migration",
}
CHANGED: dict[str, st.SearchStrategy[Any]] = {
    "node": st.sampled_from((*NODES, "n9")),
    "target": st.sampled_from((*NODES, "n9")),
    "shard": st.sampled_from((0, 1, 7)),
    "instance": st.sampled_from(("a", "z")),
    "shards": st.sampled_from((2, 3)),
    "nodes": st.sampled_from((["n1"], ["n2", "n1"])),
    "incarnation": st.sampled_from((0, 4, 5)),
    "member": st.sampled_from(("db1", "db9")),
    "epoch": st.sampled_from((0, 1)),
    "step": st.sampled_from(("prepare", "reserve", "nope")),
}
"""What is drawn for a field, where an example has only one value."""


def joined(node: str) -> JoinNode:
    return JoinNode(node=node, address=f"{node}:1", lease_seconds=3_600, process=f"{node}-p", store=f"{node}-s")


POSSIBLE: tuple[Command, ...] = (
    RegisterInstance(instance="a", spec={"address": "h", "port": 1}),
    SetMaintenance(instance="a"),
    DeregisterInstance(instance="a"),
    *map(joined, NODES),
    *(CordonNode(node=node) for node in NODES),
    *(DrainNode(node=node) for node in NODES),
    *(RemoveNode(node=node) for node in NODES),
    *(ExpireNode(node=node, incarnation=position) for node in NODES for position in range(1, 6)),
    CreateKeyspace(shards=2, nodes=("n1",)),
    CreateKeyspace(shards=2),
    *(PinShard(shard=shard) for shard in (0, 1)),
    *(MoveShard(shard=0, target=node) for node in NODES),
    PauseSaga(),
    CreateGroup(members=(NewMember("db1"), NewMember("db2"))),
    JoinGroup(member="db1", process="p"),
    *(ReportMember(member="db1", incarnation=incarnation, outcome="ready") for incarnation in (3, 4)),
    Failover(),
)
SERVED = (
    joined("n1"),
    joined("n2"),
    CreateKeyspace(shards=2, nodes=("n1",)),
    ReportOpened(shard=0, node="n1", epoch=1),
)
LIKELY = (*SERVED, MoveShard(shard=0, target="n2"))
STATES = st.tuples(
    st.sampled_from([LIKELY[:count] for count in range(len(LIKELY) + 1)]),
    st.lists(st.sampled_from(POSSIBLE), max_size=5),
).map(lambda both: [*both[0], *both[1]])


def data_of(command: type[Command]) -> st.SearchStrategy[dict[str, Any]]:
    """Data of a command: that of an example, with other names and numbers in it."""
    shown = st.sampled_from([example["data"] for example in EXAMPLES if example["type"] == command.type])
    fields = {name: values for name, values in CHANGED.items() if name in command.model_fields}
    return st.builds(lambda data, drawn: {**data, **drawn}, shown, st.fixed_dictionaries(fields))


class World:
    """A controller of one partition, with its log in memory."""

    def __init__(self, told: Running) -> None:
        self.told = told
        writers = {0: told.writer}
        gateway = Gateway("c", "c", 1, told.views, writers, {}, dict, lambda stream, instance: {})
        self.app: Application = application(gateway)

    async def after(self, commands: Sequence[Command]) -> "World":
        """Once the commands have been given from inside, where no rule is asked."""
        await self.told.reigns()
        for number, command in enumerate(commands):
            kind = "cluster" if isinstance(command, ExpireNode) else KIND_OF[command.type]
            await self.told.execute(Envelope(f"before-{number}", STREAM_OF[kind], command))
        return self

    async def ask(self, method: str, path: str, body: Any, query: str = "") -> dict[str, Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": orjson.dumps(body)}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"idempotency-key", b"asked")]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        await self.app(scope, receive, send)
        answer: dict[str, Any] = orjson.loads(sent[1]["body"])
        return answer


async def by_its_route(world: World, route: Route, data: dict[str, Any]) -> str:
    """What the command's own route says: `accepted`, `unchanged`, or the name of an error."""
    names = re.findall(r"\{(\w+)\}", route.path)
    path = route.path
    for name in names:
        path = path.replace(f"{{{name}}}", str(PATH.get(name) or data[name]))
    body = {name: value for name, value in data.items() if name not in names}
    query = ""
    if route.command is RegisterInstance:
        # The spec is the body; who registers stands in the query.
        body, beside = body["spec"], {name: found for name, found in body.items() if name != "spec"}
        query = urlencode({name: found for name, found in beside.items() if found is not None})
    answer = await world.ask(route.method, path, body, query)
    return str(answer.get("type", "")).removeprefix("urn:muster:") or str(answer["status"])


async def by_the_batch(world: World, command: type[Command], data: dict[str, Any]) -> str:
    """What `POST /v1/commands` says."""
    stream = STREAM_OF[KIND_OF[command.type]]
    asked = {"id": "asked", "type": command.type, "stream": stream, "data": data}
    (outcome,) = (await world.ask("POST", "/v1/commands", [asked]))["items"]
    return str(outcome["error"]["name"] if outcome["error"] else outcome["status"])


def routes() -> list[tuple[type[Command], Route]]:
    """The routes that give a command, each with it."""
    told = Running(RecorderLog(POPOApplicationRecorder(), 0), "w1")
    return [(route.command, route) for route in World(told).app.routes if route.command is not None]


ROUTES = routes()


def test_every_command_has_a_route_or_is_reported_with_the_tasks() -> None:
    commands = {command for command, _ in ROUTES}
    assert set(COMMANDS.values()) == commands | REPORTED
    assert not commands & REPORTED


@pytest.mark.parametrize(("command", "route"), ROUTES, ids=[f"{route.method} {route.path}" for _, route in ROUTES])
@given(data=st.data(), state=STATES)
@settings(max_examples=15, deadline=None)
def test_a_verb_and_the_same_command_in_a_batch_have_the_same_outcome(
    command: type[Command], route: Route, data: st.DataObject, state: list[Command]
) -> None:
    fields = data.draw(data_of(command))

    async def compared() -> None:
        logs = [RecorderLog(POPOApplicationRecorder(), 0) for _ in range(2)]
        async with running(logs[0]) as one, running(logs[1]) as other:
            asked, published = await World(one).after(state), await World(other).after(state)
            outcome = await by_the_batch(published, command, fields)
            assert await by_its_route(asked, route, fields) == outcome

    asyncio.run(compared())


@pytest.mark.parametrize(
    ("before", "command", "outcome"),
    [
        (SERVED, RemoveNode(node="n1"), "VerbNotAllowed"),
        (SERVED[:2], RemoveNode(node="n1"), "VerbNotAllowed"),
        ((*SERVED[:2], ExpireNode(node="n1", incarnation=0)), RemoveNode(node="n1"), "accepted"),
        (SERVED, MoveShard(shard=0, target="n9"), "NodeNotFound"),
        ((*SERVED, CordonNode(node="n2")), MoveShard(shard=0, target="n2"), "NodeCordoned"),
        ((*SERVED, DrainNode(node="n2")), MoveShard(shard=0, target="n2"), "NodeCordoned"),
        (LIKELY, MoveShard(shard=0, target="n2"), "unchanged"),
        ((*LIKELY, CordonNode(node="n2")), MoveShard(shard=0, target="n2"), "unchanged"),
        ((), Heartbeat(instance="a"), "ServiceNotFound"),
    ],
)
async def test_a_batch_refuses_what_the_verbs_refuse(before: Sequence[Command], command: Command, outcome: str) -> None:
    async with running(RecorderLog(POPOApplicationRecorder(), 0)) as told:
        world = await World(told).after(before)
        assert await by_the_batch(world, type(command), command.model_dump(mode="json", exclude_none=True)) == outcome
