"""`muster services --load`, `muster instances SERVICE --load`: what they have to do now, beside how they are."""

import asyncio

from muster import Client, Observation, Observations
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from tests.muster.cli.commands import shown, told
from tests.muster.controller import ControllerProcess


async def beat(url: str, instance: Beat) -> None:
    async with Client(url) as client:
        await client.heartbeats([Heartbeats("host-7", "loaded", [instance])])


def test_the_load_stands_beside_each_service(server: ControllerProcess) -> None:
    incarnation = told(server, "register", "loaded", "a", "--address", "h", "--port", "80")["incarnation"]
    told(server, "register", "idle", "a", "--address", "h", "--port", "80")
    asyncio.run(beat(server.url, Beat("a", incarnation, 12, 310.5)))
    rows = {row["service"]: row for row in told(server, "services", "--load")["items"]}
    assert (rows["loaded"]["healthy"], rows["loaded"]["load"]["per_second"]) == (1, 310.5)
    assert rows["idle"]["load"] is None
    lines = {line.split()[0]: line.split()[1:] for line in shown(server, "services", "--load").splitlines()}
    assert lines["loaded"] == ["1", "1", "1", "12", "310.5"]
    assert lines["idle"] == ["1", "1"]


def test_what_clients_saw_stands_beside_it(server: ControllerProcess) -> None:
    incarnation = told(server, "register", "called", "a", "--address", "h", "--port", "80")["incarnation"]

    async def see() -> None:
        seen = Observation("a", incarnation, 200, 3, 0, 0.0214)
        async with Client(server.url) as client:
            await client.observations([Observations("web-1", "called", 5.0, [seen])])

    asyncio.run(see())
    rows = {row["service"]: row for row in told(server, "services", "--load")["items"]}
    assert (rows["called"]["load"]["observers"], rows["called"]["load"]["failure_share"]) == (1, 0.015)
    (line,) = (line for line in shown(server, "services", "--load").splitlines() if line.startswith("called"))
    # Nobody has said anything of itself.
    assert line.split()[1:] == ["1", "1", "0", "1", "40", "1.5%", "21.4ms"]


def test_what_clients_saw_of_each_instance_stands_beside_it(server: ControllerProcess) -> None:
    known = {
        name: told(server, "register", "seen", name, "--address", "h", "--port", "80")["incarnation"] for name in "abc"
    }
    told(server, "maintenance", "seen", "c", "--reason", "why")

    async def see() -> None:
        seen = [Observation("a", known["a"], 200, 3, 0, 0.0214), Observation("b", known["b"], 5, 5, 5)]
        async with Client(server.url) as client:
            await client.observations([Observations("web-1", "seen", 5.0, seen)])
            await client.heartbeats([Heartbeats("host-7", "seen", [Beat("a", known["a"], 12)])])

    asyncio.run(see())
    told(server, "deregister", "seen", "b")
    told(server, "register", "seen", "b", "--address", "h", "--port", "80")
    rows = {row["instance"]: row for row in told(server, "instances", "seen", "--load")["items"]}
    assert (rows["a"]["health"], rows["a"]["load"]["failure_share"]) == ("healthy", 0.015)
    # What was seen of the incarnation before is nothing of this one.
    assert rows["b"]["load"] is None
    lines = {line.split()[0]: line.split()[1:] for line in shown(server, "instances", "seen", "--load").splitlines()}
    assert lines["a"] == ["h:80", "healthy", "12", "1", "40", "1.5%", "21.4ms"]
    assert lines["b"] == ["h:80", "healthy"]
    assert "maintenance" in lines["c"]
