"""Checks that fail together, on a controller that asks real sockets: the way to all instances is cut, or one of them dies."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.workers.http.conftest import Api, controller

NAMES = ("a", "b", "c", "d")
INSTANCES = "/v1/services/orders/instances"


class Relay:
    """What the checks have to pass on their way: a listener for each instance, which can be cut."""

    def __init__(self) -> None:
        self.servers: dict[str, asyncio.Server] = {}

    async def open(self, name: str) -> int:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        self.servers[name] = server
        return int(server.sockets[0].getsockname()[1])

    def cut(self, *names: str) -> None:
        for name in names:
            self.servers[name].close()


@asynccontextmanager
async def fleet(api: Api) -> AsyncIterator[Relay]:
    """Four instances that are healthy by checks through the relay."""
    relay = Relay()
    for name in NAMES:
        port = await relay.open(name)
        check = {"kind": "tcp", "host": "127.0.0.1", "port": port, "interval_seconds": 0.1, "unhealthy_after": 2}
        await api.register(name, checks=[{**check, "name": "port"}])
    await until(api, lambda rows: all(row["health"] == "healthy" for row in rows.values()))
    yield relay
    relay.cut(*NAMES)


async def until(api: Api, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The instances by name, once it holds of them."""
    async with asyncio.timeout(30):
        while True:
            rows = {row["instance"]: row for row in (await api.get(INSTANCES)).body["items"]}
            if holds(rows):
                return rows
            await asyncio.sleep(0.02)


def all_suspect(rows: dict[str, Any]) -> bool:
    return all(row["suspect"] == "checks fail together" for row in rows.values())


def all_ill(rows: dict[str, Any]) -> bool:
    return all(row["health"] == "unhealthy" for row in rows.values())


async def test_when_the_way_to_all_is_cut_they_are_served_and_marked_until_time_has_passed(tmp_path: Path):
    async with controller(tmp_path, mass_flip_seconds=2.0) as api, fleet(api) as relay:
        relay.cut(*NAMES)
        rows = await until(api, all_suspect)
        assert {row["health"] for row in rows.values()} == {"unhealthy"}
        assert [row["instance"] for row in (await api.get("/v1/discover/orders")).body["items"]] == list(NAMES)
        assert "muster_suspects 4.0" in (await api.get("/metrics")).body.decode()

        rows = await until(api, lambda rows: not any(row["discoverable"] for row in rows.values()))
        assert [row["suspect"] for row in rows.values()] == [None] * 4
        assert (await api.get("/v1/discover/orders")).problem == (503, "NoHealthyInstances")
        history = (await api.get("/v1/history/orders/a")).body["items"]
        said = [event["type"].split(".")[2] for event in history]
        assert said[-1] == "checks_believed"
        assert history[-1]["data"]["because"] == "time"
        assert "checks_disputed" in said


async def test_one_alone_goes_at_once_and_the_others_stay_unmarked(tmp_path: Path):
    async with controller(tmp_path) as api, fleet(api) as relay:
        relay.cut("b")
        rows = await until(api, lambda rows: rows["b"]["health"] == "unhealthy")
        assert (rows["b"]["discoverable"], rows["b"]["suspect"]) == (False, None)
        assert {row["suspect"] for row in rows.values()} == {None}


async def test_an_operator_believes_the_checks(tmp_path: Path):
    async with controller(tmp_path) as api, fleet(api) as relay:
        relay.cut(*NAMES)
        await until(api, all_suspect)
        told = await api.post("/v1/services/orders/believe", {"instances": ["a"], "reason": "dark"}, Muster_Actor="ann")
        assert told.body["status"] == "accepted"
        rows = await until(api, lambda rows: not rows["a"]["discoverable"])
        assert all(rows[name]["discoverable"] for name in "bcd")
        await api.post("/v1/services/orders/believe")
        await until(api, lambda rows: not any(row["discoverable"] for row in rows.values()))


async def test_it_is_still_so_after_a_restart(tmp_path: Path):
    async with controller(tmp_path) as api, fleet(api) as relay:
        relay.cut(*NAMES)
        await until(api, all_suspect)
    async with controller(tmp_path) as api:
        assert all_suspect(await until(api, lambda rows: len(rows) == 4))
        assert "muster_suspects 4.0" in (await api.get("/metrics")).body.decode()


async def test_without_the_guard_all_of_them_go(tmp_path: Path):
    async with controller(tmp_path, mass_flip_seconds=0.0) as api, fleet(api) as relay:
        relay.cut(*NAMES)
        rows = await until(api, all_ill)
        assert not any(row["discoverable"] or row["suspect"] for row in rows.values())
