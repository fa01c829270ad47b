"""What a read model is: a name, a revision, a key and a fold. The same definition feeds memory and PostgreSQL."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from domain.message import Recorded

Row = TypeVar("Row")
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Projection(Generic[Row]):
    """A read model's definition.

    `key` names the row that an event touches (None: none); `evolve` gives the row after it (None: no row). A new
    `revision` means that rows of the old one are wrong: they are rebuilt from the log. `row_type` is a dataclass that
    pydantic can serialise; `key_names` are the key's columns; `columns` gives what SQL users filter and join by, as the
    NamedTuple `columns_type`, whose field types become SQL types.
    """

    name: str
    revision: int
    key_names: tuple[str, ...]
    row_type: type[Row]
    key: Callable[[Recorded], Key | None]
    evolve: Callable[[Row | None, Recorded], Row | None]
    columns_type: type[tuple[Any, ...]]
    columns: Callable[[Row], tuple[Any, ...]]
