"""Commands that only look: services, instances, discover, watch, history, status."""

from typing import TYPE_CHECKING, Any, TypedDict

import click
from typing_extensions import Unpack

from muster.cli.listing import consistency_option, show_page
from muster.cli.outcome import say, show
from muster.cli.registry import shown
from muster.cli.registry.line import change_document, show_change
from muster.cli.registry.load import show_loaded_instances, show_loaded_services
from muster.cli.remote import Remote, remote
from muster.cli.table import table

if TYPE_CHECKING:
    from muster.client.client import Client, Consistency
    from muster.wire.registry.check import Health


class _Asked(TypedDict):
    """Which instances."""

    health: "Health | None"
    tag: str | None
    zone: str | None
    consistency: "Consistency"


@click.command()
@click.option(
    "--load",
    "loaded",
    is_flag=True,
    help="Show what they have to do now, as instances say and clients saw.",
)
@consistency_option
@remote
def services(remote: Remote, loaded: bool, consistency: "Consistency") -> None:
    """List all services, with their instances counted by health."""
    if loaded:
        show_loaded_services(remote, lambda client: client.services(consistency=consistency))
        return
    show_page(remote, remote.call(lambda client: client.services(consistency=consistency)), shown.SERVICES)


@click.command()
@click.argument("service")
@click.option("--health", type=click.Choice(["healthy", "unhealthy", "unknown"]))
@click.option("--tag")
@click.option("--zone")
@click.option("--load", "loaded", is_flag=True, help="Show how calls to them fare, as clients saw.")
@consistency_option
@remote
def instances(remote: Remote, service: str, loaded: bool, **asked: Unpack[_Asked]) -> None:
    """List the instances of SERVICE."""
    if loaded:
        show_loaded_instances(remote, lambda client: client.instances(service, **asked), service)
        return
    show_page(remote, remote.call(lambda client: client.instances(service, **asked)), shown.INSTANCES)


@click.command()
@click.argument("service")
@consistency_option
@remote
def discover(remote: Remote, service: str, consistency: "Consistency") -> None:
    """List the instances of SERVICE that can take traffic now."""
    page = remote.call(lambda client: client.discover_page(service, consistency=consistency))
    show_page(remote, page, shown.INSTANCES)


@click.command()
@click.argument("service", required=False)
@click.option("--changes", type=click.IntRange(min=1), help="End after so many changes.")
@remote
def watch(remote: Remote, service: str | None, changes: int | None) -> None:
    """Show the instances of SERVICE (or of all services), then every change as it comes. With --json one per line."""

    async def follow(client: "Client") -> None:
        seen = -1  # the snapshot is no change
        async for change in client.watch(service):
            if remote.json:
                show(change_document(change))
            else:
                show_change(change)
            seen += 1
            if seen == changes:
                return

    remote.call(follow)


@click.command()
@click.argument("service")
@click.argument("instance")
@remote
def history(remote: Remote, service: str, instance: str) -> None:
    """Show what happened to INSTANCE of SERVICE: what, when, by whom and why. Also after it has gone."""
    page = remote.call(lambda client: client.history(service, instance))
    show_page(remote, page, shown.HISTORY)


@click.command()
@remote
def status(remote: Remote) -> None:
    """Show the controller's own account: role, log, partitions, positions, lags."""
    account = remote.call(lambda client: client.status())
    if remote.json:
        show(account)
        return
    # Lists of rows, like the partitions, get a table of their own below.
    plain = {name: value for name, value in account.items() if not _is_rows(value)}
    table(("", ""), [(name, _cell(value)) for name, value in plain.items()])
    for name in account.keys() - plain.keys():
        _show_turned(name, account[name])


def _show_turned(name: str, rows: list[dict[str, Any]]) -> None:
    """A column per row: there are few rows and many fields."""
    # In the order in which they come first: rows need not have the same fields.
    fields = list(dict.fromkeys(field for row in rows for field in row))
    first, rest = fields[0], fields[1:]
    say("")
    table(
        (name, *(f"{first} {_cell(row.get(first))}" for row in rows)),
        [(field, *(_cell(row.get(field)) for row in rows)) for field in rest],
    )


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return "" if value is None else str(value)
