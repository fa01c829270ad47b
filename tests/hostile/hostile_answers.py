"""Answers of a controller in which everything that can be text is hostile: made from what clients read."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, Literal, get_args, get_origin, get_type_hints

from aiohttp import web

from muster.wire.read_model import Page
from muster.wire.registry.answers import EventPage, History, Instance, Service, Written
from muster.wire.sagas import Saga
from muster.wire.shards.answers import ClusterState, KeyspaceState, Migration, MoveStarted, Node, Route, Shard
from tests.muster.client.scripted import answer, events, problem, wire

HOSTILE = "\x1b[2J\x1b]8;;http://e\x07[/x] [link=https://e]l[/link] :smile: \u202egnp.exe\nforged \x9b31m\x7f"
"""Clears the screen, links, closes what was never open, is emoji, turns the line round, begins another one, and goes on."""


def of(hint: Any, names: dict[Any, Any] | None = None) -> Any:
    """A value of the type, as JSON has it; every text in it is hostile."""
    hint = (names or {}).get(hint, hint)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return parts[0]
    if is_dataclass(origin or hint):
        return _of_dataclass(origin or hint, dict(zip(getattr(origin, "__parameters__", ()), parts, strict=False)))
    if origin is tuple:
        return [of(parts[0], names)]
    if origin is dict:
        return {HOSTILE: of(parts[1], names)}
    if origin is None and hint in (int, float, bool, str, datetime, Any):
        return {int: 1, float: 1.5, bool: True, datetime: "2026-01-31T03:00:00Z"}.get(hint, HOSTILE)
    # Of a union the first: only fields that may be empty are unions, and of a check's kinds any will do.
    return of(next(part for part in parts if part is not type(None)), names)


def _of_dataclass(found: Any, names: dict[Any, Any]) -> dict[str, Any]:
    hints = get_type_hints(found)
    return {field.name: _special(field.name) or of(hints[field.name], names) for field in fields(found)}


def _special(name: str) -> object:
    # What a client reads as a token or a check is not shown, and has a form.
    return {"token": "0:1", "checks": [{"kind": "ttl", "name": "t", "ttl_seconds": 5.0}]}.get(name)


ANSWERS: dict[str, Any] = {
    "GET services": Page[Service],
    "GET services/instances": Page[Instance],
    "GET discover": Page[Instance],
    "GET history": History,
    "GET events": EventPage,
    "GET keyspaces": Page[KeyspaceState],
    "GET keyspaces/shards": Page[Shard],
    "GET keyspaces/route": Route,
    "GET nodes": Page[Node],
    "GET nodes/one": Node,
    "GET cluster": ClusterState,
    "GET migrations": Page[Migration],
    "GET migrations/one": Migration,
    "GET sagas": Page[Saga],
    "GET sagas/one": Saga,
    "POST moves": MoveStarted,
    "PUT": Written,
}


@asynccontextmanager
async def hostile_controller(refuses: bool = False) -> AsyncIterator[str]:
    """The url of one that answers each request as the tables above say; `refuses`: with a problem."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if refuses:
            return await problem("VerbNotAllowed", 409, HOSTILE, allowed=HOSTILE)(request)
        return await _handler(request)(request)

    async with wire(handle) as served:
        yield served.url


def _handler(request: web.Request) -> Callable[..., Any]:
    parts = request.path.removeprefix("/v1/").split("/")
    if parts[0] == "watch":
        item = of(Instance)
        worse = {**item, "instance": "[/y]" + HOSTILE}
        change = {"op": "put", "item": {**item, "position": 2, "zone": "\x1b[0m", "health": "unhealthy"}}
        gone = {**worse, "op": "remove", "position": 3, "cause": HOSTILE}
        return events(("0:1", "snapshot", {"items": [item, worse]}), ("0:3", "delta", {"changes": [change, gone]}))
    if parts[0] == "status":
        rows = [{HOSTILE: HOSTILE, "partition": HOSTILE}, {HOSTILE: None, "partition": 1}]
        return answer({HOSTILE: HOSTILE, "partitions": rows, "parked": [HOSTILE], "log": {HOSTILE: [HOSTILE]}})
    return answer(of(ANSWERS[_named(request.method, parts)]))


def _named(method: str, parts: list[str]) -> str:
    if method != "GET":
        return "POST moves" if parts[-1] == "moves" else "PUT"
    alone = {"migrations": 3, "nodes": 2, "sagas": 5}
    if parts[0] in alone and len(parts) == alone[parts[0]]:
        return f"GET {parts[0]}/one"
    return (
        f"GET {parts[0]}/{parts[2]}" if parts[0] in ("services", "keyspaces") and len(parts) > 2 else f"GET {parts[0]}"
    )
