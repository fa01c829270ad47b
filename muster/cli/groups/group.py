"""The commands about failover groups: groups; group run, create, set, delete, show, watch, history, failover, pause, add, …"""

import sys
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, cast

import click

from muster.cli.groups.run import run
from muster.cli.groups.story import GROUPS as TABLE
from muster.cli.groups.story import MEMBERS, about, line, sentence
from muster.cli.listing import listing
from muster.cli.outcome import REFUSED, say, show
from muster.cli.remote import F, Remote, reason_option, remote, tell
from muster.cli.table import show_rows
from muster.cli.text import instant
from muster.wire.error import FailoverTimeout
from muster.wire.groups.answers import GROUP_SETTINGS, GROUPS
from muster.wire.sagas import TOOK_LONGER
from muster.wire.stream import group_stream

if TYPE_CHECKING:
    from muster.client.client import Client
    from muster.client.control.groups import GroupSettings
    from muster.wire.groups.answers import GroupSetting
    from muster.wire.registry.answers import Written
    from muster.wire.sagas import Saga

wait_seconds_max: Final = 120.0

groups: Final = listing(GROUPS, "List the failover groups.", TABLE)


@click.group()
def group() -> None:
    """Run a member of a failover group, look at a group, or say what is to become of it."""


group.add_command(run)


def _members(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, int]:
    # Without a priority a member has that of all others, so that none is preferred by accident.
    found: dict[str, int] = {}
    for text in texts:
        name, colon, priority = text.partition(":")
        if colon and not (priority.isascii() and priority.isdecimal()):
            raise click.BadParameter(f"{text!r}: the priority is a whole number, as in {name}:10")
        if name in found:
            raise click.BadParameter(f"{name} is named twice")
        found[name] = int(priority or 1)
    return found


def _settings(command: F) -> F:
    """The options that say how a group fails over."""
    options = (
        click.option("--threshold", type=int, help="A member that misses so many heartbeats has failed.  [default: 3]"),
        click.option("--heartbeat-seconds", type=float, help="How often members are heard.  [default: 0.5]"),
        click.option("--lease-seconds", type=float, help="For so long a primary may lead unheard.  [default: 2]"),
        click.option(
            "--fencing",
            type=click.Choice(["lease", "hook", "unfenced"]),
            help="hook: a primary that is not heard may be fenced by `group run --fence`, before its lease is over; "
            "unfenced: do not wait until the primary has ended; two are possible then.  [default: lease]",
        ),
        click.option("--max-lag", type=int, help="How far behind a copy may be to take over, as --position counts."),
        click.option("--synchronous/--no-synchronous", default=None, help="Only members of the in-sync set take over."),
        click.option("--preempt/--no-preempt", default=None, help="A ready member of higher priority takes over."),
        click.option("--hold-down-seconds", type=float, help="Pause between failovers on suspicion.  [default: 30]"),
        click.option("--service", help="Where members are registered as instances, whose checks count."),
        click.option(
            "--failover-seconds", type=float, help="Then a failover without success turns back.  [default: 30]"
        ),
    )
    # Reversed, because each one stands before those that were there: the help has them in the order of this list.
    for option in reversed(options):
        command = option(command)
    return command


def _given(settings: Mapping[str, object]) -> "GroupSettings":
    # The options are named like the settings, and click has judged their types.
    return cast("GroupSettings", {name: value for name, value in settings.items() if value is not None})


@group.command()
@click.argument("group")
@click.option("--member", "members", multiple=True, metavar="NAME[:PRIORITY]", callback=_members, help="Repeat it.")
@_settings
@reason_option
@remote
def create(remote: Remote, group: str, members: dict[str, int], reason: str | None, **settings: object) -> None:
    """Have failover group GROUP. Of the members that can lead, the highest priority does."""
    given = _given(settings)
    tell(remote, f"create {group}", lambda client: client.groups.create(group, members, reason=reason, **given))


@group.command("set")
@click.argument("group")
@_settings
@click.option(
    "--default",
    type=click.Choice(GROUP_SETTINGS),
    multiple=True,
    help="Take this setting back to its default; max_lag and service to none. Repeat it.",
)
@reason_option
@remote
def set_(
    remote: Remote, group: str, default: "tuple[GroupSetting, ...]", reason: str | None, **settings: object
) -> None:
    """Change how GROUP fails over: what is given, and nothing else."""
    given = _given(settings)
    # The server would answer `unchanged`, and whoever mistyped an option would think that it was taken.
    if not given and not default:
        raise click.UsageError("nothing is to be changed: give an option, like --lease-seconds 4")
    tell(remote, f"set {group}", lambda client: client.groups.set(group, default=default, reason=reason, **given))


@group.command()
@click.argument("group")
@click.option("--force", is_flag=True, help="Though members run: their runners stop. The primary has to have ended.")
@reason_option
@remote
def delete(remote: Remote, group: str, force: bool, reason: str | None) -> None:
    """Have GROUP no more. Its history stays, and its epochs go on should it come again."""
    tell(remote, f"delete {group}", lambda client: client.groups.delete(group, force=force, reason=reason))


@group.command("show")
@click.argument("group")
@remote
def show_(remote: Remote, group: str) -> None:
    """Show who leads GROUP, who could, and what is amiss."""
    found = remote.call(lambda client: client.groups.one(group))
    if remote.json:
        show(found)
        return
    for text in about(found):
        say(text)
    show_rows(MEMBERS, found.members)


@group.command()
@click.argument("group")
@remote
def watch(remote: Remote, group: str) -> None:
    """Show GROUP as it is, then a line as often as it changes. With --json a document per line."""

    async def work(client: "Client") -> None:
        async with aclosing(client.groups.watch(group)) as states:
            async for found in states:
                if remote.json:
                    show(found)
                else:
                    say(f"{group}: there is no such group" if found is None else line(found))

    remote.call(work)


@group.command()
@click.argument("group")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Only so many of the newest."
)
@remote
def history(remote: Remote, group: str, limit: int) -> None:
    """Tell the history of GROUP: who led, how that ended, who was passed over, and why."""
    # The newest, since the oldest of a long history are rarely what somebody looks for; the newest stands last.
    page = remote.call(lambda client: client.newest_events(stream=group_stream(group), limit=limit))
    if remote.json:
        show(page)
        return
    for event in page.items:
        say(f"{instant(event.at)}  {sentence(event)}")


@group.command()
@click.argument("group")
@click.option("--to", metavar="MEMBER", help="Who is to lead.  [default: whoever comes first]")
@click.option("--accept-data-loss", is_flag=True, help="Though acknowledged writes may be missing there.")
@click.option("--wait", is_flag=True, help="Until it is over. Exit code 1: it turned back; 3: it took too long.")
@reason_option
@remote
def failover(
    remote: Remote, group: str, to: str | None, accept_data_loss: bool, wait: bool, reason: str | None
) -> None:
    """Let another member lead GROUP: the primary stops, and nobody leads before it has."""

    async def work(client: "Client") -> "tuple[Written, Saga | None]":
        written = await client.groups.failover(group, to=to, accept_data_loss=accept_data_loss, reason=reason)
        # Without a number of its own nothing was begun: the member leads already.
        if not wait or written.status != "accepted":
            return written, None
        return written, await _over(client, group, written.incarnation)

    written, saga = remote.call(work)
    if remote.json:
        show(written if saga is None else saga)
    elif saga is None:
        say(f"{written.status}: failover {group}")
    else:
        say(f"{saga.phase}: {saga.id}" + (f": {saga.cause}" if saga.cause else ""))
    if saga is not None and saga.phase != "completed":
        sys.exit(REFUSED)


async def _over(client: "Client", group: str, number: int | None) -> "Saga":
    """The failover once it is over. Raises FailoverTimeout."""
    import asyncio  # here, as below: `--help` needs none of them
    import time

    from muster.client.control.groups import failover_id

    until = time.monotonic() + wait_seconds_max
    while True:
        saga = await client.sagas.one(failover_id(group, number or 0))
        if saga.ended:
            if TOOK_LONGER in (saga.cause or ""):
                raise FailoverTimeout(f"{saga.id} was given up: {saga.cause}")
            return saga
        if time.monotonic() > until:
            raise FailoverTimeout(f"{saga.id} is not over after {wait_seconds_max:g} s: it waits for {saga.waits_for}")
        await asyncio.sleep(0.05)


def _verb(name: str, help: str) -> click.Command:
    @click.command(name, help=help)
    @click.argument("group")
    @reason_option
    @remote
    def command(remote: Remote, group: str, reason: str | None) -> None:
        tell(remote, f"{name} {group}", lambda client: getattr(client.groups, name)(group, reason=reason))

    return command


group.add_command(_verb("pause", "Let failovers of GROUP begin only when an operator asks for them."))
group.add_command(_verb("resume", "Let failovers of GROUP begin by themselves again."))


@group.command()
@click.argument("group")
@click.argument("member")
@click.option("--priority", type=click.IntRange(min=0), default=1, show_default=True)
@reason_option
@remote
def add(remote: Remote, group: str, member: str, priority: int, reason: str | None) -> None:
    """Have MEMBER in GROUP, or give it another priority."""
    tell(
        remote,
        f"add {member} to {group}",
        lambda client: client.groups.add(group, member, priority=priority, reason=reason),
    )


@group.command()
@click.argument("group")
@click.argument("member")
@reason_option
@remote
def leave(remote: Remote, group: str, member: str, reason: str | None) -> None:
    """Have MEMBER in GROUP no more. Let another one lead first, if it is the primary."""
    tell(remote, f"take {member} out of {group}", lambda client: client.groups.remove(group, member, reason=reason))
