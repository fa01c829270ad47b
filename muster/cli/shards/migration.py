"""Commands about moves of shards: move, migrations, and migration show|pause|resume|retry|skip|abort|force-complete."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import RenderableType
from rich.live import Live

from muster.cli.listing import tell_parked
from muster.cli.outcome import REFUSED, say, show
from muster.cli.remote import Remote, reason_option, remote
from muster.cli.sagas import verb_command
from muster.cli.shards.story import line, overview, story
from muster.cli.table import console
from muster.client.control.sagas import SagaState, SagaVerb
from muster.client.control.shards import parts_of
from muster.wire.error import MusterError
from muster.wire.shards.answers import Migration

if TYPE_CHECKING:
    from muster.client.client import Client

_HELP: Final[dict[SagaVerb, str]] = {
    "pause": "Stop migration ID after what is under way; nothing more is wanted of anybody.",
    "resume": "Let migration ID go on; also one that is held before its cut-over.",
    "retry": "Try the failed step of migration ID again, with all its attempts.",
    "skip": "Leave out the step at which migration ID is, if it can be left out.",
    "abort": "Turn migration ID back, if its commit has not happened yet.",
    "force-complete": "Leave out whatever can be left out of the rest of migration ID, once it is committed.",
}


def _at(_context: click.Context, _option: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time like 2026-01-31T03:00:00Z") from None
    # Without an offset it would be another instant on another machine.
    if at.tzinfo is None:
        raise click.BadParameter(f"{text!r} needs an offset, like Z or +02:00")
    return at.astimezone(UTC)


def _id(_context: click.Context, _argument: click.Parameter, text: str) -> str:
    try:
        return "keyspace/{}/migration/{}".format(*parts_of(text))
    except MusterError as error:
        raise click.BadParameter(error.detail) from None


@click.command()
@click.argument("keyspace")
@click.argument("shard", type=int)
@click.option("--to", "target", required=True, metavar="NODE", help="Where it is to be.")
@click.option("--hold", is_flag=True, help="Wait before the cut-over until somebody resumes it.")
@click.option("--not-before", callback=_at, metavar="TIME", help="Wait before the cut-over: 2026-01-31T03:00:00Z.")
@click.option("--rate", "bytes_per_second", type=float, metavar="BYTES", help="Copy at most so many per second.")
@click.option("--soak-seconds", type=float, help="How long the source keeps its copy after the cut-over.")
@click.option("--cleanup-seconds", type=float, help="And how much longer.")
@click.option("--wait", is_flag=True, help="Until it has ended. Exit code 1: it turned back, or needs an operator.")
@reason_option
@remote
def move(remote: Remote, keyspace: str, shard: int, target: str, wait: bool, **options: Any) -> None:
    """Move SHARD of KEYSPACE to another data node while it is read and written."""
    started = remote.call(lambda client: client.shards.move(keyspace, shard, target, **options))
    if not wait or started.migration is None:
        if remote.json:
            show(started)
        else:
            say(f"{started.status}: {started.migration or f'shard {shard} has always been at {target}'}")
        return
    last = _watched(remote, started.migration, lambda found: None if remote.json else say(line(found)))
    if remote.json:
        show(last)
    # Blocked, or turned back: the shard is not where it was wanted.
    if last.phase != "completed":
        sys.exit(REFUSED)


def _watched(remote: Remote, id_: str, seen: Callable[[Migration], None]) -> Migration:
    """The migration once it has ended or is blocked; `seen` gets it whenever it says something new."""

    async def work(client: "Client") -> Migration:
        before = None
        async with aclosing(client.shards.follow(id_)) as states:
            async for found in states:
                # The watch tells of every change, also of those that the line does not show.
                if (state := (found.step, found.attempt, found.standing, found.paused, found.progress)) != before:
                    seen(found)
                before = state
                # Only an operator can let it go on, so its end may never come.
                if found.standing == "blocked":
                    break
        return found

    return remote.call(work)


@click.command()
@click.option("--keyspace")
@click.option("--state", type=click.Choice(["running", "blocked", "paused", "ended"]))
@click.option("--limit", type=click.IntRange(min=1), help="Only so many of the newest.")
@click.option("--watch", is_flag=True, help="Go on showing what changes. With --json one per line.")
@remote
def migrations(remote: Remote, keyspace: str | None, state: SagaState | None, limit: int | None, watch: bool) -> None:
    """List moves of shards, the newest first."""
    if watch:
        # The watch has no such filters, and to leave rows out silently would look as if there were none.
        if state is not None or limit is not None:
            raise click.UsageError("--watch shows those of all states: leave out --state and --limit")
        remote.call(lambda client: _watch(remote, client.shards.watch_migrations(keyspace=keyspace)))
        return
    page = remote.call(lambda client: client.shards.migrations(keyspace=keyspace, state=state, limit=limit))
    tell_parked(page)
    if remote.json:
        show(page)
    else:
        console().print(overview(page.items))


async def _watch(remote: Remote, changes: AsyncGenerator[tuple[Migration, ...], None]) -> None:
    rows: dict[str, Migration] = {}
    # Only a terminal can be painted over; a pipe gets lines.
    live = not remote.json and sys.stdout.isatty()

    async def drawn() -> AsyncIterator[RenderableType]:
        async with aclosing(changes):
            async for changed in changes:
                for row in sorted(changed, key=lambda row: row.started_at):
                    if remote.json:
                        show(row)
                    elif not live:
                        say(line(row))
                rows.update({row.id: row for row in changed})
                # Those that run come first: what does not fit on the screen is left out.
                newest = sorted(rows.values(), key=lambda row: (not row.ended, row.started_at), reverse=True)
                yield overview(newest[: max(5, console().height - 3)])

    await _paint(drawn(), live=live)


async def _paint(pictures: AsyncIterator[RenderableType], *, live: bool) -> None:
    """Show each picture in place of the one before; without a terminal, what makes them writes lines."""
    if not live:
        async for _ in pictures:
            pass
        return
    with Live(console=console(), auto_refresh=False) as screen:
        async for picture in pictures:
            screen.update(picture, refresh=True)


@click.group()
def migration() -> None:
    """Look at a move of a shard, or say how it is to go on. ID: users/17, or keyspace/users/migration/17."""


@migration.command("show")
@click.argument("migration", callback=_id, metavar="ID")
@click.option("--watch", is_flag=True, help="Go on showing it until it has ended. With --json one per line.")
@remote
def show_(remote: Remote, migration: str, watch: bool) -> None:
    """Tell the story of migration ID: every step, when and how long, what it waits for, and what may be done."""
    if watch:
        remote.call(lambda client: _watch_story(remote, client, migration))
        return
    found = remote.call(lambda client: client.shards.migration(migration))
    if remote.json:
        show(found)
    else:
        console().print(story(found))


async def _watch_story(remote: Remote, client: "Client", id_: str) -> None:
    live = not remote.json and sys.stdout.isatty()

    async def drawn() -> AsyncIterator[RenderableType]:
        async with aclosing(client.shards.follow(id_)) as states:
            async for found in states:
                if remote.json:
                    show(found)
                elif not live:
                    say(line(found))
                yield story(found)
        # Where lines were written, the whole story with its steps comes once, at the end.
        if not remote.json and not live:
            console().print(story(found))

    await _paint(drawn(), live=live)


for _name, _help in _HELP.items():
    migration.add_command(verb_command(_name, _help, _id))
