"""The command that runs a member of a failover group: group run. The client's code is imported only when it is called."""

import logging
import re
import sys
from typing import Any, Final

import click

from muster.cli.amount import Amount
from muster.cli.outcome import run as run_to_end
from muster.cli.remote import controllers_options
from muster.wire.stream import NAME

_FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"


def _logs() -> None:
    logging.basicConfig(level=logging.WARNING, format=_FORMAT, stream=sys.stderr)
    logging.getLogger("muster.group").setLevel(logging.INFO)


def _named(_context: click.Context, _option: click.Parameter, text: str) -> str:
    if text and not re.fullmatch(NAME, text):
        raise click.BadParameter(f"{text!r} is no name: 1 to 128 letters, digits, . _ -")
    return text


def _address(_context: click.Context, _option: click.Parameter, text: str) -> str:
    host, _, port = text.rpartition(":")
    # Not by `isdigit`: that knows the digits of all scripts, and `int` not all of them.
    if text and not (host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65_536):
        raise click.BadParameter(f"{text!r} is no address; it looks like HOST:PORT")
    return text


@click.command()
@click.argument("group")
@click.option("--as", "member", required=True, envvar="MUSTER_MEMBER", metavar="MEMBER", help="Which member this is.")
@click.option("--promote", default="", metavar="CMD", help="Makes it the primary; before COMMAND is started.")
@click.option("--demote", default="", metavar="CMD", help="Makes a standby of it; also at the start.")
@click.option("--check", default="", metavar="CMD", help="Exit code 0: it is fit to be the primary.")
@click.option("--position", default="", metavar="CMD", help="Prints how far its copy reaches, a number.")
@click.option(
    "--fence", default="", metavar="CMD", help="Ends another primary that is not heard: for groups with --fencing hook."
)
@click.option(
    "--role",
    "runs",
    type=click.Choice(["primary", "always"]),
    default="primary",
    show_default=True,
    help="When COMMAND runs: as the primary alone; or always, switched by the hooks.",
)
@click.option(
    "--service",
    default="",
    callback=_named,
    metavar="SERVICE",
    help="Be an instance of this service too; needs --address.",
)
@click.option("--address", default="", callback=_address, metavar="HOST:PORT", help="Where its clients reach it.")
@click.option(
    "--hook-timeout",
    type=Amount(0, above=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a hook may take.",
)
@click.option(
    "--stop-timeout",
    type=Amount(0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="From SIGTERM to SIGKILL, when COMMAND is stopped in order.",
)
@controllers_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(hook_timeout: float, stop_timeout: float, service: str, **options: Any) -> None:
    """Run a member of GROUP, in the foreground, until SIGTERM: COMMAND and hooks, as the group wants it.

    COMMAND gets MUSTER_GROUP, MUSTER_MEMBER, MUSTER_ROLE and MUSTER_EPOCH; hooks get them too, and the group as JSON on standard
    input. All that it has started is dead before another member leads.
    """
    from muster.cli.groups.registering import keep_registered
    from muster.group.runner import RunSettings, run_member

    # Said here, before anything is joined: a runner that ends for its options must not have been a member for a moment.
    if service and not options["address"]:
        raise click.UsageError("--service needs --address: where the instance is to be found")
    if not (options["command"] or options["promote"]):
        raise click.UsageError("say what is run: a COMMAND after --, or a --promote hook")
    # What the client itself says is only of interest when it is a warning; what becomes of the member always is.
    _logs()
    settings = RunSettings(hook_timeout_seconds=hook_timeout, stop_timeout_seconds=stop_timeout, **options)

    # The registration goes last and comes beside: the member does not wait for it, nor for a service that nobody asks for.
    async def work() -> None:
        import asyncio

        about = (settings.member, settings.address, settings.urls, settings.cluster)
        registering = asyncio.create_task(keep_registered(service, *about)) if service else None
        try:
            await run_member(settings)
        finally:
            if registering is not None:
                registering.cancel()
                await asyncio.wait([registering])

    run_to_end(work, json=False)
