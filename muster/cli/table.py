"""Rows as a table: a table is a list of columns, and a column is a field of the row unless it says otherwise."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from muster.wire import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_WIDTH_OF_PIPES: Final = 200
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)


@dataclass(frozen=True)
class TableColumn(Generic[R_contra]):
    """A column of a table: its title, and what it shows of a row."""

    title: str
    shown: "Callable[[R_contra], str | Text]"


def columns(*parts: "str | TableColumn[R]") -> list[TableColumn[R]]:
    """Columns in their order: a name stands for the field, or property, of that name."""
    return [_of_field(part) if isinstance(part, str) else part for part in parts]


def _of_field(name: str) -> TableColumn[object]:
    return TableColumn(name.upper().replace("_", " "), lambda row: cell(getattr(row, name)))


def cell(value: object) -> str:
    """A field as text: none and false are left empty, lists joined by commas."""
    match value:
        case None | False:
            return ""
        case True:
            return "yes"
        case float():
            return f"{value:g}"
        case tuple() | list():
            return ",".join(map(str, value))
        case _:
            return str(value)


def drawn(shown: Sequence[TableColumn[R]], rows: Iterable[R]) -> "Table":
    """The rows as a table, one line each."""
    return _drawn([column.title for column in shown], ([column.shown(row) for column in shown] for row in rows))


def show_rows(shown: Sequence[TableColumn[R]], rows: Iterable[R]) -> None:
    """Write the rows as a table."""
    console().print(drawn(shown, rows))


def table(titles: Sequence[str], rows: "Iterable[Sequence[str | Text]]") -> None:
    """Write a table of texts; nothing is cut off: what is too wide goes on below."""
    console().print(_drawn(titles, rows))


def _drawn(titles: Sequence[str], rows: "Iterable[Sequence[str | Text]]") -> "Table":
    from rich.table import Table  # Here, as below: only what draws loads rich.

    found = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        # Folded, since what is cut off an audit is what somebody would rather not show.
        found.add_column(as_text(title), overflow="fold")
    for row in rows:
        found.add_row(*map(as_text, row))
    return found


def as_text(cell: "str | Text") -> "Text":
    """The cell as text that is no markup, on one line and without control characters, whoever wrote it."""
    from rich.text import Text

    plain, style = (cell, "") if isinstance(cell, str) else (cell.plain, cell.style)
    return Text(printable(plain), style)


def coloured(text: str, colour: str) -> "Text":
    """A cell in a colour (none: as it is)."""
    from rich.text import Text

    return Text(text, colour)


def console() -> "Console":
    """A console on the current standard output."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_OF_PIPES
    # Without markup and emoji: a text that got here past `as_text` is still shown as it is.
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
