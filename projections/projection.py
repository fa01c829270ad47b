"""What a read model is: a name, a row, a key and a fold. Memory, PostgreSQL and a replay fold the same definition."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from domain.message import Event, Recorded
from muster.wire.error import Refused
from muster.wire.read_model import ReadModel

Row = TypeVar("Row")
Key = tuple[str, ...]


# Equal by identity: projections are keys of dictionaries, and not all of their fields can be hashed.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Projection(Generic[Row]):
    """A read model's definition.

    `name` is also the table's, the path's and the command line's. A new `revision` means that rows of the old one are wrong:
    they are built again from the log. `row` is a dataclass that pydantic can serialise. `key` names the parts of a row's key;
    `aliases` says what the row calls them, where that differs. `events` are the types that touch a row, `key_of` gives the
    key of the row that such an event touches, and `fold` the row after it (None: there is no row any more).

    `columns` are what SQL users see besides the key: fields of the row, fields of its parts (`spec.address`) or properties;
    none: every field. `keeps_whole_row`: the table also keeps the whole row as JSON, and not only what the columns leave out.
    `in_memory`: controllers keep the rows too, and answer from them.

    `served`: what everyone outside calls the rows: they are listed, watched and filtered as it says, as their columns show
    them; None: no face serves them, or one of its own. `missing` is the refusal for a key without a row, and rows are served
    by their keys where it is given; `summary` and `tag` stand in the OpenAPI document.
    """

    name: str
    revision: int
    row: type[Row]
    key: tuple[str, ...]
    events: frozenset[type[Event]]
    key_of: Callable[[Recorded], Key]
    fold: Callable[[Row | None, Recorded[Any]], Row | None]
    columns: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    keeps_whole_row: bool = False
    in_memory: bool = True
    served: ReadModel[Any] | None = None
    missing: Callable[[Key], Refused] | None = None
    summary: str = ""
    tag: str = "reading"

    def touched(self, recorded: Recorded) -> Key | None:
        """The key of the row that the event touches; None: it touches none."""
        return self.key_of(recorded) if type(recorded.event) in self.events else None

    def touched_by_each(self, recorded: Sequence[Recorded]) -> list[Key | None]:
        """`touched`, of many events."""
        # Looked up once and not for each event: the whole log comes by here.
        events, key_of = self.events, self.key_of
        return [key_of(one) if type(one.event) in events else None for one in recorded]


AnyProjection = Projection[Any]
"""A projection, whatever its rows are."""
