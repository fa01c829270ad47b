"""Lists as commands: the command of a read model is made from what it says of itself."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

import click

from muster.cli.outcome import say, show
from muster.cli.remote import Remote, remote
from muster.cli.table import TableColumn, columns, show_rows
from muster.wire.read_model import Item, ReadModel

if TYPE_CHECKING:
    from muster.client.client import Consistency

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

consistency_option: Final = click.option(
    "--consistency",
    type=click.Choice(["eventual", "strong"]),
    default="eventual",
    show_default=True,
    help="strong: proven to be the newest.",
)


class Listed(Protocol[R_co]):
    """A list as a controller answers it."""

    @property
    def items(self) -> Sequence[R_co]:
        """Its rows."""


def tell_parked(page: object) -> None:
    """Say which rows of the list stand still, and so may be wrong."""
    parked = getattr(page, "parked", None)
    if parked:
        what = "an event could not be folded into them; see `muster status`"
        say(f"parked: {len(parked)} rows stand still ({', '.join(parked[:10])}): {what}", err=True)


def show_page(remote: Remote, page: Listed[R], shown: Sequence[TableColumn[R]]) -> None:
    """The list as a table, or as a document with --json. What rests on rows that stand still is told on standard error."""
    tell_parked(page)
    if remote.json:
        show(page)
        return
    show_rows(shown, page.items)
    # A header alone looks like a table that was cut off.
    if not page.items:
        say("there are none", err=True)


def listing(model: ReadModel[Item], help: str, shown: Sequence[TableColumn[Item]] = ()) -> click.Command:
    """The command that lists a read model: an option for each of its filters; without `shown` a column for each field."""
    table = shown or columns(*(field.name for field in fields(model.item)))  # type: ignore[arg-type] # it is a dataclass

    @click.command(model.name, help=help)
    @consistency_option
    @remote
    def command(remote: Remote, consistency: "Consistency", **asked: object) -> None:
        show_page(remote, remote.call(lambda client: client.rows(model, consistency=consistency, **asked)), table)

    types = get_type_hints(model.item)
    for name in reversed(model.filters):
        option = click.option(
            f"--{name.replace('_', '-')}", type=_type(types[name]), help=f"Only those with this {name}."
        )
        command = option(command)
    return command


def _type(hint: object) -> "click.Choice[str] | type":
    """What an option of the field's type takes; of a field that may be None, what it takes else."""
    left = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) is Literal:
        return click.Choice([str(part) for part in left])
    if len(left) == 1:
        return _type(left[0])
    return hint if hint in (bool, int, float) else str
