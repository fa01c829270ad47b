"""What a read model is: a name, a revision, a key and a fold. The same definition feeds memory and PostgreSQL."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from domain.message import Recorded

Row = TypeVar("Row")
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rest(Generic[Row]):
    """What a row holds besides its key and columns, and how the three make a row again: so no fact is stored twice.

    `kind` is a type that pydantic can serialise; `rest` takes the rest from a row.
    """

    kind: Any
    rest: Callable[[Row], Any]
    row: Callable[[Key, Any, Any], Row]


@dataclass(frozen=True, slots=True)
class Projection(Generic[Row]):
    """A read model's definition.

    `key` names the row that an event touches (None: none); `evolve` gives the row after it (None: no row). A new
    `revision` means that rows of the old one are wrong: they are rebuilt from the log. `row_type` is a dataclass that
    pydantic can serialise; `key_names` are the key's columns; `columns` gives what SQL users filter and join by, as the
    NamedTuple `columns_type`, whose field types become SQL types. `rest` is what else a table must hold so that a fold
    can go on from it; None: the whole row.
    """

    name: str
    revision: int
    key_names: tuple[str, ...]
    row_type: type[Row]
    key: Callable[[Recorded], Key | None]
    evolve: Callable[[Row | None, Recorded], Row | None]
    columns_type: type[tuple[Any, ...]]
    columns: Callable[[Row], tuple[Any, ...]]
    rest: Rest[Row] | None = None
