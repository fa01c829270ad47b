"""The command about how the clients of services spread their calls: traffic show, set, list."""

from typing import TYPE_CHECKING, Final, cast

import click

from muster.cli.listing import listing
from muster.cli.outcome import say, show
from muster.cli.remote import F, Remote, reason_option, remote, tell
from muster.cli.table import TableColumn, cell, columns, table
from muster.cli.text import age, instant
from muster.wire.registry.traffic import DEFAULTS, POLICIES, SETTINGS, TRAFFIC, Traffic

if TYPE_CHECKING:
    from muster.client.control.traffic import TrafficChange
    from muster.wire.registry.traffic import Setting


def _given(row: Traffic) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in row.given.items()) or "nothing any more"


def _text(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else cell(value)


_ROWS: Final[list[TableColumn[Traffic]]] = columns(
    "service", TableColumn("SET", _given), TableColumn("SINCE", lambda row: age(row.since)), "actor", "reason"
)


@click.group()
def traffic() -> None:
    """See and set how the clients of a service that balance spread their calls over its instances."""


traffic.add_command(listing(TRAFFIC, "List the services for whose clients something was set.", _ROWS), "list")


@traffic.command("show")
@click.argument("service")
@remote
def show_(remote: Remote, service: str) -> None:
    """Show what is set for the clients of SERVICE, who has said so and why, and what holds otherwise."""
    found = remote.call(lambda client: client.traffic.show(service))
    if remote.json:
        show(found)
        return
    if found is None:
        say(f"{service}: nothing was ever set; clients take their own, else what is shown")
    else:
        reason = f": {found.reason}" if found.reason else ""
        say(f"{service}: set by {found.actor}, last on {instant(found.since)}{reason}")
    given, otherwise = {} if found is None else found.given, DEFAULTS
    rows = [
        (name, _text(given.get(name, getattr(otherwise, name))), "operator" if name in given else "default")
        for name in SETTINGS
    ]
    table(("SETTING", "VALUE", "FROM"), rows)


def _settings(command: F) -> F:
    """The options that say how clients spread their calls."""
    options = (
        click.option("--policy", type=click.Choice(POLICIES), help="How an instance is chosen."),
        click.option(
            "--slow-start", "slow_start_seconds", type=float, metavar="SECONDS", help="Less, for who has just come."
        ),
        click.option("--eject-after", type=int, help="Failures in a row, then the instance is left out; 0: never."),
        click.option("--eject-seconds", type=float, help="For so long it is left out."),
        click.option("--limit/--no-limit", default=None, help="Under overload, refuse calls of low priority first."),
        click.option("--in-flight-max", type=int, help="So many calls each client has under way at most."),
        click.option("--retry-share", type=float, help="For each success so much of a retry may be made."),
        click.option(
            "--report-seconds", type=float, help="So often clients tell the controllers what they see; 0: never."
        ),
        click.option(
            "--default",
            type=click.Choice(SETTINGS),
            multiple=True,
            help="Take this setting back: clients take their own. Repeat it.",
        ),
    )
    # Reversed, because each one stands before those that were there: the help has them in the order of this list.
    for option in reversed(options):
        command = option(command)
    return command


@traffic.command("set")
@click.argument("service")
@_settings
@reason_option
@remote
def set_(remote: Remote, service: str, default: "tuple[Setting, ...]", reason: str | None, **settings: object) -> None:
    """Set how the clients of SERVICE spread their calls, for all that run now and all that come: what is given, and no more."""
    # The options are named like the settings, and click has judged their types.
    given = cast("TrafficChange", {name: value for name, value in settings.items() if value is not None})
    if not given and not default:
        raise click.UsageError("nothing is to be set: give an option, like --policy round_robin")
    what = ", ".join(
        [*(f"{name} {_text(value)}" for name, value in given.items()), *(f"{one} not set" for one in default)]
    )
    tell(
        remote,
        f"traffic of {service}: {what}",
        lambda client: client.traffic.set(service, default=default, reason=reason, **given),
    )
