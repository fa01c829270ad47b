"""`muster events`: what the log recorded, the newest last, of all partitions; also as it comes."""

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, cast

import click

from muster.cli.listing import show_page
from muster.cli.moment import FORMS, span
from muster.cli.outcome import say, show
from muster.cli.registry import shown
from muster.cli.remote import Remote, remote
from muster.wire.registry.answers import Event, EventPage, EventQuery

if TYPE_CHECKING:
    from muster.client.client import Client


@click.command()
@click.option("--since", metavar="TIME", help=f"Recorded then or later: {FORMS}.")
@click.option("--until", metavar="TIME", help="Recorded then or earlier.")
@click.option("--follow", "-f", is_flag=True, help="Go on with those that come, a line each.")
@click.option("--actor", help="Only what this one did.")
@click.option("--instance", help="Only of this instance; with --stream of that service's.")
@click.option("--stream", help="Only of this stream: service/orders.")
@click.option("--type", "type", help="Only of this type: registered, or instance.registered.")
@click.option("--partition", type=click.IntRange(min=0), help="Only of this partition.  [default: all]")
@click.option(
    "--after", type=click.IntRange(min=-1), help="The oldest behind this position of one partition, the stream's or 0."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@partial(remote, acts=False)
def events(
    remote: Remote, since: str | None, until: str | None, follow: bool, after: int | None, **filters: object
) -> None:
    """List the newest recorded events, of all partitions, the newest last."""
    if follow and (until is not None or after is not None):
        raise click.UsageError("--follow goes on for ever, from the newest on: leave out --until and --after")
    begin, end = span(since, until)
    # The options are named like the fields that they stand for.
    asked = cast("EventQuery", {**filters, "since": begin, "until": end, "after": after})
    if follow:
        remote.call(lambda client: _follow(remote, client, asked))
        return

    async def page(client: "Client") -> EventPage:
        # A position belongs to one partition, and is read on from it in order.
        return await (client.newest_events(**asked) if after is None else client.events(**asked))

    show_page(remote, remote.call(page), shown.EVENTS)


async def _follow(remote: Remote, client: "Client", asked: EventQuery) -> None:
    async with aclosing(client.follow_events(**asked)) as events:
        async for event in events:
            if remote.json:
                show(event)
            else:
                say(line(event))


def line(event: Event) -> str:
    """An event in one line: where and when, what, by whom and why."""
    cells = (str(column.shown(event)) for column in shown.EVENTS)
    return "  ".join(cell for cell in cells if cell)
