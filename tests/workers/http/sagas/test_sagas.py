"""Sagas of all kinds over HTTP: a migration as any other saga, and a saga of a service."""

from typing import Any

import orjson
import pytest

from domain.registry.service import RegisterInstance
from muster.wire.command import Command, Envelope
from muster.wire.registry.spec import Spec
from sagas.engine.definition import Definition, Step, Wait, table
from tests.machine import Machine
from tests.sagas.rolling_restart import RESTART, RestartInstance, _drain, _undrain
from tests.workers.http.cluster import ID, MOVE, at, ended, move, served, until
from tests.workers.http.conftest import Api, ask
from workers.gateway import Gateway
from workers.http.application import application
from workers.http.sagas.model import SagaItem, SagaList, SagaWhole
from workers.machine.aggregate import Aggregates
from workers.views.views import Views

SAGA = f"/v1/sagas/{ID}"
"""The path of the first migration of `users`: its id, part by part."""


async def moving(api: Api, step: str = "prepare", **fields: Any) -> None:
    """A move of shard 0 from n1 to n2 that has come to this step."""
    await served(api)
    assert (await move(api, **fields)).status == 200
    await until(api, at(step), working=step != "prepare")


async def test_a_migration_is_a_saga_like_any_other(api: Api) -> None:
    await moving(api, soak_seconds=0, cleanup_seconds=0)
    await until(api, ended, working=True)
    told = SagaWhole.model_validate((await api.get(f"{SAGA}?consistency=strong")).body)
    migration = (await api.get(MOVE)).body

    assert (told.id, told.saga, told.root) == (ID, "migration", "keyspace/users")
    assert (told.definition, told.version) == ("shard_migration", 1)
    assert (told.facts["shard"], told.facts["source"], told.facts["target"]) == (0, "n1", "n2")
    answered = (await api.get(SAGA)).body
    common = answered.keys() & migration.keys()
    assert migration.keys() - common == {"keyspace", "shard", "source", "target", "progress", "weighed"}
    assert {name: answered[name] for name in common} == {name: migration[name] for name in common}


async def test_the_verbs_of_migrations_are_those_of_sagas(api: Api) -> None:
    await moving(api)
    assert (await api.post(f"{SAGA}/pause", {"reason": "lunch"}, Muster_Actor="bob")).body["status"] == "accepted"
    paused = SagaWhole.model_validate((await api.get(SAGA)).body)
    assert (paused.paused, paused.waits_for) == (True, "an operator: paused by bob")
    assert paused.allowed == ["resume", "abort"]
    assert (await api.post(f"{MOVE}/pause")).body["status"] == "unchanged"
    assert (await api.post(f"{SAGA}/resume")).body["status"] == "accepted"
    assert (await api.post(f"{SAGA}/retry")).body["status"] == "unchanged"
    assert (await api.post(f"{SAGA}/force-complete")).problem == (409, "VerbNotAllowed")
    assert (await api.post(f"{SAGA}/skip", {"step": "copy"})).problem == (409, "VerbNotAllowed")
    assert (await api.post(f"{SAGA}/upgrade", {"version": 1})).body["status"] == "unchanged"
    assert (await api.post(f"{SAGA}/abort")).body["status"] == "accepted"
    assert (await until(api, ended, working=True))["phase"] == "compensated"


async def test_the_step_under_way_is_skipped_once_on_either_path(api: Api) -> None:
    await moving(api, "gate", hold=True)
    told = await api.post(f"{SAGA}/skip", Idempotency_Key="k")
    await until(api, at("fence"))
    again = await api.post(f"{MOVE}/skip", Idempotency_Key="k")

    assert told.body["status"] == "accepted"
    assert again.body == told.body
    assert again.headers["Muster-Duplicate"] == "true"


async def test_sagas_are_listed_newest_first_by_their_name_root_and_state(api: Api) -> None:
    await moving(api)
    await move(api, 1, "n3")
    await move(api, 2, "n2")
    await api.post("/v1/sagas/keyspace/users/migration/3/pause")

    async def numbers(query: str) -> list[str]:
        told = SagaList.model_validate((await api.get(f"/v1/sagas{query}")).body)
        return [item.id.rpartition("/")[2] for item in told.items]

    assert await numbers("") == await numbers("?saga=migration&root=keyspace/users&state=running") == ["3", "2", "1"]
    assert await numbers("?limit=2") == ["3", "2"]
    assert await numbers("?state=paused") == ["3"]
    for nothing in ("saga=restart", "root=keyspace/orders", "root=service/users", "state=ended", "state=blocked"):
        assert await numbers(f"?{nothing}") == []
    for field, wrong in (("state", "odd"), ("limit", "0"), ("saga", "-"), ("kind", "x")):
        told = await api.get(f"/v1/sagas?{field}={wrong}")
        assert told.problem == (422, "InvalidCommand")
        assert told.body["field"] == field


async def test_a_saga_that_is_not_there_is_told(api: Api) -> None:
    await served(api)
    for method, path in (("GET", ""), ("POST", "/pause"), ("POST", "/skip")):
        told = await api.ask(method, f"/v1/sagas/keyspace/users/migration/7{path}")
        assert told.problem == (404, "MigrationNotFound")
    assert (await api.get("/v1/sagas/service/users/restart/1")).problem == (404, "SagaNotFound")
    assert (await api.post("/v1/sagas/keyspace/users/migration/1/undo")).problem == (404, "RouteNotFound")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("keyspace/users/migration/x", "number"),
        ("keyspace/us%20ers/migration/1", "root"),
        ("key%20space/users/migration/1", "kind"),
        ("keyspace/users/mig%20ration/1", "saga"),
        ("service/users/migration/1", "stream"),
        ("keyspace/users/restart/1", "stream"),
        ("keyspace/users/migration/0", "stream"),
    ],
)
async def test_a_command_reaches_no_writer_for_what_can_be_no_saga(api: Api, path: str, field: str) -> None:
    told = await api.post(f"/v1/sagas/{path}/pause")
    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field


HELD = Definition(
    RESTART.name,
    1,
    (
        Step("drain", _drain, undo=(Step("undrain", _undrain),)),
        Step("approve", lambda _: (Wait("an operator has to approve"),), harmless="it only waits", skippable=True),
        Step("welcome", _undrain, pivot=True),
    ),
    saga="restart",
    root="service",
    start=RestartInstance,
    number=RESTART.number,
    facts=RESTART.facts,
)
"""A restart that only waits: its root is a service."""


def restarting() -> Views:
    """Views of a partition with a restart of the service `orders` that waits for an operator."""
    machine, views = Machine(Aggregates(table(HELD))), Views([0], definitions=table(HELD))

    def give(id_: str, command: Command) -> None:
        answer = machine.answer(Envelope(id_, "service/orders", command, actor="ann", reason="release 2"))
        assert answer.error is None
        views.apply(0, machine.folded, machine.partition.cursor)

    give("c1", RegisterInstance(instance="a", spec=Spec(address="10.0.0.7", port=8080, metadata={"release": "1"})))
    give("c2", RestartInstance(instance="a", host="h1", release="2"))
    return views


async def test_a_saga_of_a_service_is_answered_with_its_facts_and_is_no_migration() -> None:
    gateway = Gateway("", "", 1, restarting(), {}, {}, status=dict, check_output=lambda stream, instance: {})
    app = application(gateway)

    status, _, body = await ask(app, "GET", "/v1/sagas", b"root=service/orders")
    (item,) = orjson.loads(body)["items"]
    assert (status, SagaItem.model_validate(item).saga) == (200, "restart")
    status, _, body = await ask(app, "GET", f"/v1/sagas/{item['id']}")
    told = SagaWhole.model_validate_json(body)
    assert (status, told.root, told.definition) == (200, "service/orders", "rolling_restart")
    assert (told.facts["instance"], told.facts["release"]) == ("a", "2")
    assert (told.step, told.waits_for) == ("approve", "an operator: an operator has to approve")
    assert told.allowed == ["pause", "resume", "skip", "abort"]
    assert (told.actor, told.reason) == ("ann", "release 2")
    assert [(step.name, step.outcome) for step in told.steps] == [("drain", "done"), ("approve", "running")]
    assert orjson.loads((await ask(app, "GET", "/v1/migrations"))[2])["items"] == []


def test_the_state_of_a_stream_is_never_that_of_a_keyspace_with_the_same_name() -> None:
    views = restarting().shards
    (id_,) = views.sagas
    assert views.state(id_) is views.sagas[id_]
    views.keyspaces["orders"] = object()  # type: ignore[assignment]
    assert views.state("service/orders") is None
    assert views.state("keyspace/orders") is views.keyspaces["orders"]
