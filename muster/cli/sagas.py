"""Commands about sagas of all kinds: sagas, and saga show|pause|resume|retry|skip|abort|force-complete."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from muster.cli.listing import tell_parked
from muster.cli.outcome import show
from muster.cli.remote import Remote, reason_option, remote, tell
from muster.cli.shards.story import overview_of_sagas, story
from muster.cli.table import console
from muster.client.control.sagas import VERBS, SagaState, SagaVerb, parts_of
from muster.wire.error import MusterError
from muster.wire.registry.answers import Written

if TYPE_CHECKING:
    from muster.client.client import Client

IdOption = Callable[[click.Context, click.Parameter, str], str]
"""Reads the id of a saga, as a callback of click's."""

_HELP: Final[dict[SagaVerb, str]] = {
    "pause": "Stop saga ID after what is under way; nothing more is wanted of anybody.",
    "resume": "Let saga ID go on.",
    "retry": "Try the failed step of saga ID again, with all its attempts.",
    "skip": "Leave out the step at which saga ID is, if it can be left out.",
    "abort": "Turn saga ID back, if it has not passed its pivot yet.",
    "force-complete": "Leave out whatever can be left out of the rest of saga ID, once it has passed its pivot.",
}


def _id(_context: click.Context, _argument: click.Parameter, text: str) -> str:
    try:
        return "/".join(parts_of(text))
    except MusterError as error:
        raise click.BadParameter(error.detail) from None


@click.command()
@click.option("--saga", metavar="NAME", help="Only those of this name, like migration.")
@click.option("--root", metavar="STREAM", help="Only those of this root, like keyspace/users.")
@click.option("--state", type=click.Choice(["running", "blocked", "paused", "ended"]))
@click.option("--limit", type=click.IntRange(min=1), help="Only so many of the newest.")
@remote
def sagas(remote: Remote, saga: str | None, root: str | None, state: SagaState | None, limit: int | None) -> None:
    """List sagas of all kinds, the newest first."""
    page = remote.call(lambda client: client.sagas.newest(saga=saga, root=root, state=state, limit=limit))
    tell_parked(page)
    if remote.json:
        show(page)
    else:
        console().print(overview_of_sagas(page.items))


@click.group()
def saga() -> None:
    """Look at a saga, or say how it is to go on. ID: keyspace/users/migration/17."""


@saga.command("show")
@click.argument("saga", callback=_id, metavar="ID")
@remote
def show_(remote: Remote, saga: str) -> None:
    """Tell the story of saga ID: every step, when and how long, what it waits for, and what may be done."""
    found = remote.call(lambda client: client.sagas.one(saga))
    if remote.json:
        show(found)
    else:
        console().print(story(found))


def verb_command(verb: SagaVerb, help: str, id_: IdOption) -> click.Command:
    """The command that applies a verb to a saga; `id_` makes its stream of what stands on the command line."""

    @click.command(verb, help=help)
    @click.argument("saga", callback=id_, metavar="ID")
    @reason_option
    @remote
    def command(remote: Remote, saga: str, reason: str | None, step: str | None = None) -> None:
        async def work(client: "Client") -> Written:
            # Named, so that a repeat of the command does not leave out the next step too.
            named = (await client.sagas.one(saga)).step if verb == "skip" and step is None else step
            return await client.sagas.tell(saga, verb, step=named, reason=reason)

        tell(remote, f"{verb} {saga}", work)

    if verb == "skip":
        command = click.option("--step", help="Which, to be sure.  [default: the one under way]")(command)
    return command


for _name in VERBS:
    saga.add_command(verb_command(_name, _HELP[_name], _id))
