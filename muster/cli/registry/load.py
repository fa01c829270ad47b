"""Services and instances beside what they have to do now: `muster services --load`, `muster instances SERVICE --load`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final

from muster.cli.listing import show_page
from muster.cli.registry.line import state
from muster.cli.registry.shown import HEALTH
from muster.cli.remote import Remote
from muster.cli.table import TableColumn, cell, columns
from muster.wire.read_model import Page
from muster.wire.registry.answers import Instance, Service
from muster.wire.telemetry.loads import SeenInstance, ServiceLoad

if TYPE_CHECKING:
    from muster.client.client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedService(Service):
    """A service, and what it has to do now; None: nobody says so."""

    load: ServiceLoad | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedInstance(Instance):
    """An instance, and what its clients saw of it now; None: none has called it."""

    load: SeenInstance | None


_Loaded = LoadedService | LoadedInstance


def _load(title: str, name: str) -> TableColumn[_Loaded]:
    return TableColumn(title, lambda row: "" if row.load is None else cell(getattr(row.load, name)))


def _failed(row: _Loaded) -> str:
    share = None if row.load is None else row.load.failure_share
    return "" if share is None else f"{share:.1%}"


def _latency(row: _Loaded) -> str:
    seconds = None if row.load is None else row.load.latency_seconds
    return "" if seconds is None else f"{seconds * 1000:.3g}ms"


_BY_CLIENTS: Final[list[TableColumn[_Loaded]]] = [
    _load("CLIENTS", "observers"),
    _load("CALLS PER SECOND", "attempts_per_second"),
    TableColumn("FAILED", _failed),
    TableColumn("LATENCY", _latency),
]
# What instances say of themselves stands to the left of what their clients saw.
_SERVICES: Final[list[TableColumn[LoadedService]]] = columns(
    "service",
    "instances",
    "healthy",
    _load("HEARD", "heard"),
    _load("IN FLIGHT", "in_flight"),
    _load("PER SECOND", "per_second"),
    _load("FAILURES PER SECOND", "failures_per_second"),
    _load("UTILISATION", "utilisation"),
    *_BY_CLIENTS,
)
_INSTANCES: Final[list[TableColumn[LoadedInstance]]] = columns(
    "instance", "endpoint", HEALTH, TableColumn("STATE", state), _load("IN FLIGHT", "in_flight"), *_BY_CLIENTS
)


def show_loaded_services(remote: Remote, listed: "Callable[[Client], Awaitable[Page[Service]]]") -> None:
    """The services, each with its load."""

    async def both(client: "Client") -> Page[LoadedService]:
        page, loads = await asyncio.gather(listed(client), client.loads())
        found = {load.service: load for load in loads}
        rows = tuple(LoadedService(**asdict(row), load=found.get(row.service)) for row in page.items)
        return Page(token=page.token, age_seconds=page.age_seconds, parked=page.parked, items=rows)

    show_page(remote, remote.call(both), _SERVICES)


def show_loaded_instances(
    remote: Remote, listed: "Callable[[Client], Awaitable[Page[Instance]]]", service: str
) -> None:
    """The instances of the service, each with what clients saw of it."""

    async def both(client: "Client") -> Page[LoadedInstance]:
        page, loads = await asyncio.gather(listed(client), client.instance_loads(service))
        # Of an incarnation that was there before something may still be told. Not `asdict`: marks are to stay what they are.
        found = {(load.instance, load.incarnation): load for load in loads}
        rows = tuple(
            LoadedInstance(
                **{field.name: getattr(row, field.name) for field in fields(row)},
                load=found.get((row.instance, row.incarnation)),
            )
            for row in page.items
        )
        return Page(token=page.token, age_seconds=page.age_seconds, parked=page.parked, items=rows)

    show_page(remote, remote.call(both), _INSTANCES)
