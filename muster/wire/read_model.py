"""Read models as everyone outside sees them: rows of one kind, which a controller lists."""

from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from pydantic import TypeAdapter

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Item]):
    """A list as a controller answers it: the items, how far its view was (`token`), and how old that is.

    `parked` names rows in it that stand still, because an event could not be folded into them.
    """

    token: str
    age_seconds: float
    parked: tuple[str, ...] | None = None
    items: tuple[Item, ...]


# Without slots, so that the adapters can be kept; equal by identity, since a name and a type mean one thing.
@dataclass(frozen=True, kw_only=True, eq=False)
class ReadModel(Generic[Item]):
    """Rows that are listed at `GET /v1/<name>`, and by `Client.rows`; `muster <name>` shows them as a table.

    `item` is a row, a frozen dataclass; `key` are its fields that tell rows apart: one row is at `GET /v1/<name>/<key>`, if
    it is served alone. `filters` are the fields whose value a list may ask for. `watched`: `GET /v1/watch/<name>` follows
    the rows, as `Client.watch_rows` does.
    """

    name: str
    item: type[Item]
    key: tuple[str, ...]
    filters: tuple[str, ...] = ()
    watched: bool = False

    # Made when they are first used, and then kept: to make one costs far more than to use it.

    @cached_property
    def one(self) -> TypeAdapter[Item]:
        """Reads one row."""
        return TypeAdapter(self.item)

    @cached_property
    def page(self) -> TypeAdapter[Page[Item]]:
        """Reads a list of rows."""
        return TypeAdapter(Page[self.item])  # type: ignore[name-defined] # it is known only at run time
