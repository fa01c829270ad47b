"""Data nodes as the tests of the HTTP face play them: they join, and answer their tasks at once."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.workers.http.conftest import Api, Told

USERS = "/v1/keyspaces/users"
MOVE = "/v1/migrations/users/1"
ID = "keyspace/users/migration/1"
EXTENT = {"position": 7, "digest": "ab", "records": 3, "bytes": 100}


def node(name: str, **fields: Any) -> dict[str, Any]:
    port = 7400 + int(name[1:])
    return {"address": f"127.0.0.1:{port}", "lease_seconds": 60, "process": "p1", "store": f"disk-{name}", **fields}


async def join(api: Api, name: str, **fields: Any) -> Told:
    return await api.put(f"/v1/nodes/{name}", node(name, **fields))


async def report(api: Api, name: str, *reports: dict[str, Any], **headers: str) -> Told:
    return await api.post("/v1/tasks", {"node": name, "reports": list(reports)}, **headers)


async def tasks(api: Api, query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await api.get(f"/v1/tasks{query}")).body["items"]
    return items


async def work(api: Api) -> None:
    """All that is wanted of nodes now is done."""
    for task in await tasks(api):
        await report(api, task["node"], {"id": task["id"], "outcome": "done", "result": {"extent": EXTENT}})


async def served(api: Api, shards: int = 4, *names: str) -> None:
    """The keyspace `users` on these nodes (n1), served; n1 to n3 are there."""
    for name in ("n1", "n2", "n3"):
        await join(api, name)
    told = await api.put(USERS, {"shards": shards, "nodes": list(names or ("n1",))})
    assert told.status == 200, told.body
    await work(api)


async def move(api: Api, shard: int = 0, target: str = "n2", **fields: Any) -> Told:
    return await api.post(f"{USERS}/moves", {"shard": shard, "target": target, **fields})


async def until(
    api: Api, holds: Callable[[dict[str, Any]], bool], path: str = MOVE, *, working: bool = False
) -> dict[str, Any]:
    """The migration once this holds of it; `working`: the nodes do what they are asked."""
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] = (await api.get(path)).body
            if holds(found):
                return found
            if working:
                await work(api)
            await asyncio.sleep(0.01)


def at(step: str) -> Callable[[dict[str, Any]], bool]:
    return lambda migration: migration["step"] == step


def ended(migration: dict[str, Any]) -> bool:
    return migration["ended_at"] is not None
