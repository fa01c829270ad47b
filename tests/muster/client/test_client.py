"""The client against a real controller."""

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from domain.registry.service import Heartbeat, SetMaintenance
from muster import Appeared, Changed, Client, Removed, Snapshot, TtlCheck, to_service
from muster.client.watch import Change
from muster.wire.error import (
    IdempotencyConflict,
    InstanceNotFound,
    InvalidCommand,
    InvalidInstance,
    NoHealthyInstances,
    ServiceNotFound,
    StaleIncarnation,
    VersionConflict,
)
from tests.muster.controller import ControllerProcess, controller, free_port


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with controller(tmp_path / "data") as url, Client(url, actor="tester") as opened:
        yield opened


async def test_a_service_registers_is_found_and_leaves(client: Client):
    written = await client.register("users", "u-1", "10.0.0.7", 8080, tags=("blue",), metadata={"v": "1"}, zone="z1")
    assert (written.status, written.duplicate) == ("accepted", False)
    (found,) = await client.discover("users")
    assert (found.endpoint, found.tags, found.metadata, found.zone) == ("10.0.0.7:8080", ("blue",), {"v": "1"}, "z1")
    assert (found.incarnation, found.version) == (written.incarnation, written.version)
    assert found.registered_at.tzinfo is not None
    assert [row.service for row in (await client.services()).items] == ["users"]
    again = await client.register("users", "u-1", "10.0.0.7", 8080, tags=("blue",), metadata={"v": "1"}, zone="z1")
    assert again.status == "unchanged"
    await client.deregister("users", "u-1", reason="done")
    with pytest.raises(ServiceNotFound):
        await client.discover("users")
    assert (await client.instances("users")).items == ()


async def test_instances_are_filtered(client: Client):
    await client.register("users", "a", "10.0.0.1", 80, zone="z1", tags=("x",))
    await client.register("users", "b", "10.0.0.2", 80, zone="z2", tags=("y",))
    await client.report_health("users", "b", "unhealthy", "disk full")
    assert [row.instance for row in (await client.instances("users", zone="z1")).items] == ["a"]
    assert [row.instance for row in (await client.instances("users", tag="y")).items] == ["b"]
    (sick,) = (await client.instances("users", health="unhealthy")).items
    assert (sick.cause, sick.check_status["reported"].status) == ("disk full", "unhealthy")


async def test_maintenance_and_draining_take_an_instance_out_of_discovery(client: Client):
    await client.register("users", "a", "10.0.0.1", 80)
    await client.set_maintenance("users", "a", "new disk")
    with pytest.raises(NoHealthyInstances):
        await client.discover("users")
    found = await client.instance("users", "a")
    assert found.maintenance is not None
    assert (found.maintenance.actor, found.maintenance.reason, found.health) == ("tester", "new disk", "healthy")
    await client.clear_maintenance("users", "a")
    await client.drain("users", "a", "deploy")
    assert (await client.instance("users", "a")).draining is not None
    await client.undrain("users", "a")
    assert len(await client.discover("users", consistency="strong")) == 1


async def test_refusals_are_raised_by_their_names(client: Client):
    with pytest.raises(InvalidInstance) as invalid:
        await client.register("users", "a", "10.0.0.1", 99999)
    assert invalid.value.context["field"] == "port"
    with pytest.raises(ServiceNotFound):
        await client.heartbeat("users", "a")
    first = await client.register("users", "a", "10.0.0.1", 80, command_id="one")
    with pytest.raises(InstanceNotFound):
        await client.instance("users", "b")
    with pytest.raises(VersionConflict):
        await client.deregister("users", "a", expected_version=99)
    with pytest.raises(IdempotencyConflict):
        await client.register("users", "a", "10.0.0.1", 81, command_id="one")
    assert (await client.register("users", "a", "10.0.0.1", 80, command_id="one")).duplicate
    await client.deregister("users", "a")
    await client.register("users", "a", "10.0.0.1", 80)
    with pytest.raises(StaleIncarnation):
        await client.heartbeat("users", "a", incarnation=first.incarnation)
    with pytest.raises(StaleIncarnation):
        await client.deregister("users", "a", incarnation=first.incarnation)


@pytest.mark.parametrize("seconds", [math.nan, math.inf])
async def test_a_number_that_is_none_is_refused_and_not_taken_for_not_given(client: Client, seconds: float):
    check = TtlCheck(ttl_seconds=seconds)
    for lease, checks, field in ((seconds, (), "lease_seconds"), (30.0, (check,), r"checks\.0\.ttl_seconds")):
        with pytest.raises(InvalidCommand, match=f"^{field}: must be a finite number"):
            await client.register("users", "a", "10.0.0.1", 80, lease_seconds=lease, checks=checks)
    with pytest.raises(InvalidCommand, match=r"^eject_seconds: "):
        await client.traffic.set("users", policy="random", eject_seconds=seconds)
    assert (await client.instances("users")).items == ()
    assert await client.traffic.show("users") is None


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_name_that_would_lead_to_another_path_is_refused(client: Client, name: str):
    await client.register("users", "a", "10.0.0.1", 80)
    for asked in (
        client.discover(name),
        client.history("users", name),
        client.traffic.show(name),
        client.traffic.set(name, policy="random"),
        client.deregister("users", name),
    ):
        with pytest.raises(InvalidCommand, match=f"'{re.escape(name)}' is no name"):
            await asked


async def test_history_and_events_say_who_and_why(client: Client):
    await client.register("users", "a", "10.0.0.1", 80, reason="größer")
    await client.deregister("users", "a", reason="retired")
    history = await client.history("users", "a")
    assert [(entry.type, entry.actor, entry.reason) for entry in history.items] == [
        ("muster.instance.registered.v1", "tester", "größer"),
        ("muster.instance.deregistered.v1", "tester", "retired"),
    ]
    page = await client.events(stream="service/users", limit=1)
    assert page.items[0].stream == "service/users"
    (rest,) = (await client.events(stream="service/users", after=page.next_after)).items
    assert rest.data["cause"] == "requested"
    assert (await client.status())["partitions"][0]["term"] == 1


async def test_many_commands_at_once_answer_in_order(client: Client):
    await client.register("users", "a", "10.0.0.1", 80)
    commands = [to_service("users", Heartbeat(instance="a")) for _ in range(1500)]
    commands[7] = to_service("users", SetMaintenance(instance="missing"))
    commands[8] = to_service("users", SetMaintenance(instance="a"), actor="batch", reason="why")
    outcomes = await client.commands(commands)
    assert [outcome.id for outcome in outcomes] == [command.id for command in commands]
    assert (outcomes[7].status, outcomes[8].status, outcomes[9].status) == ("refused", "accepted", "unchanged")
    with pytest.raises(InstanceNotFound):
        outcomes[7].written()
    assert outcomes[8].written().status == "accepted"
    mark = (await client.instance("users", "a")).maintenance
    assert mark is not None
    assert (mark.actor, mark.reason) == ("batch", "why")


async def test_another_client_sees_what_it_is_told_of(client: Client):
    await client.register("users", "a", "10.0.0.1", 80)
    async with Client(client.url) as other:
        other.observe(client.token)
        assert len(await other.discover("users", consistency="causal")) == 1
        assert other.token == client.token


async def test_registered_keeps_the_lease_and_leaves_at_the_end(client: Client):
    async with client.registered("users", "a", "10.0.0.1", 80, lease_seconds=0.3) as registration:
        first = await client.instance("users", "a")
        async with asyncio.timeout(20), aclosing(client.watch("users")) as watching:
            await anext(watching)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):  # three leases long nothing happens
                    await anext(watching)
        assert registration.incarnation == first.incarnation
    entries = (await client.history("users", "a")).items
    assert [entry.type.split(".")[2] for entry in entries] == ["registered", "deregistered"]
    assert entries[-1].data["cause"] == "requested"


async def test_who_is_taken_out_on_request_does_not_come_back(client: Client):
    async with asyncio.timeout(20), client.registered("users", "a", "10.0.0.1", 80, lease_seconds=0.3) as registration:
        await client.deregister("users", "a", reason="quarantine")
        await registration.lost.wait()
    assert len((await client.history("users", "a")).items) == 2


async def test_a_lease_that_ran_out_is_taken_again(client: Client):
    async with asyncio.timeout(30), client.registered("users", "a", "10.0.0.1", 80, lease_seconds=1.5) as registration:
        old = registration.incarnation
        async with aclosing(client.watch("users")) as watching:
            # As after a long pause of this process: the lease runs out before the next heartbeat.
            await client.register("users", "a", "10.0.0.1", 80, lease_seconds=0.1)
            removed = [change async for change in _until(watching, Removed)][-1]
            appeared = [change async for change in _until(watching, Appeared)][-1]
        assert isinstance(removed, Removed)
        assert isinstance(appeared, Appeared)
        assert removed.cause == "lease_expired"
        assert appeared.instance.incarnation != old
        assert not registration.lost.is_set()
        await client.heartbeat("users", "a", incarnation=appeared.instance.incarnation)


async def _until(changes: AsyncGenerator[Change, None], kind: type[Change]) -> AsyncIterator[Change]:
    async for change in changes:
        yield change
        if isinstance(change, kind):
            return


async def test_a_watch_tells_of_every_kind_of_change(client: Client):
    await client.register("users", "a", "10.0.0.1", 80, checks=(TtlCheck(ttl_seconds=60),))
    async with asyncio.timeout(20), aclosing(client.watch("users")) as watching:
        first = await anext(watching)
        assert isinstance(first, Snapshot)
        await client.heartbeat("users", "a")
        healthy = await anext(watching)
        await client.register("orders", "o", "10.0.0.9", 80)  # of no interest here
        await client.register("users", "b", "10.0.0.2", 80)
        appeared = await anext(watching)
        await client.drain("users", "b", "deploy")
        drained = await anext(watching)
        await client.deregister("users", "b")
        removed = await anext(watching)
    assert isinstance(healthy, Changed)
    assert {"health", "cause", "check_status", "discoverable", "health_since"} >= healthy.fields > {"health"}
    assert isinstance(appeared, Appeared)
    assert isinstance(drained, Changed)
    assert drained.fields == {"draining", "discoverable"}
    assert isinstance(removed, Removed)
    assert (removed.cause, removed.instance.draining is not None) == ("requested", True)


async def test_what_a_watch_hands_out_is_what_a_read_gives(client: Client):
    await client.register("users", "a", "10.0.0.1", 80, tags=("x",), metadata={"k": "v"}, lease_seconds=60)
    async with asyncio.timeout(20), aclosing(client.watch()) as watching:
        await anext(watching)
        await client.set_maintenance("users", "a", "disk")
        changed = await anext(watching)
    assert isinstance(changed, Changed)
    assert [changed.instance] == list((await client.instances("users")).items)


@pytest.mark.process
async def test_a_watch_survives_the_kill_of_its_controller_without_a_gap_or_a_repeat(tmp_path: Path):
    server = ControllerProcess(tmp_path / "data", free_port())
    await server.start()
    seen: list[Change] = []
    reached = asyncio.Event()

    async def follow(client: Client) -> None:
        async for change in client.watch("users"):
            seen.append(change)
            if isinstance(change, Appeared) and change.instance.instance == "last":
                reached.set()

    async with Client(server.url, timeout_seconds=30) as writer, Client(server.url) as watcher:
        await writer.register("users", "first", "10.0.0.1", 80)
        following = asyncio.create_task(follow(watcher))
        for kill in range(3):
            for number in range(20):
                await writer.register("users", f"{kill}-{number}", "10.0.0.1", 80)
            server.kill()
            restarting = asyncio.create_task(server.start())
            await writer.register("users", f"during-{kill}", "10.0.0.1", 80)
            await restarting
        await writer.register("users", "last", "10.0.0.1", 80)
        await asyncio.wait_for(reached.wait(), 30)
        following.cancel()
        expected = {row.instance for row in (await writer.instances("users")).items}
    assert server.stop() == 0
    first, *rest = seen
    assert isinstance(first, Snapshot)
    names = [row.instance for row in first.instances]
    names += [change.instance.instance for change in rest if isinstance(change, Appeared)]
    assert len(names) == len(set(names)) == 65
    assert set(names) == expected
    assert {type(change) for change in rest} == {Appeared}
