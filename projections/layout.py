"""How a table keeps a row: its key, its columns, and the rest, which the key and the columns do not tell.

A row is taken apart by the paths of its fields and put together again from the same paths, so no fact is stored twice and
no field is named twice. A column may also show what the row does not hold as a field: a property, or, of a part that is a
value of its own or None, whether there is one. Such a column is shown and never read back.
"""

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Final, Generic, Union, get_args, get_origin, get_type_hints

from projections.projection import Key, Projection, Row


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, the path of its value in the row, and the type of that."""

    name: str
    path: str
    type: Any

    @property
    def shows_presence(self) -> bool:
        """Whether it says only that there is such a part."""
        return is_dataclass(without_none(self.type))


class Layout(Generic[Row]):
    """A projection's rows in key, `columns` and `rest`: the fields, by path, that neither key nor columns hold."""

    def __init__(self, projection: Projection[Row]) -> None:
        self.key = projection.key
        known = dict(_leaves(projection.row, projection.columns))
        key_paths = [projection.aliases.get(name, name) for name in projection.key]
        shown = projection.columns or tuple(path for path in known if path not in key_paths)
        self.columns = tuple(
            Column(path.rpartition(".")[2], path, known.get(path) or _property_type(projection.row, path))
            for path in shown
        )
        # A column that shows only whether something is there cannot give it back, so the rest keeps it too.
        held = [column.path for column in self.columns if column.path in known and not column.shows_presence]
        left = [Column(path, path, kind) for path, kind in known.items() if path not in {*held, *key_paths}]
        self.rest: Final = () if projection.keeps_whole_row else tuple(left)
        self.columns_of = _all_of(shown)
        self.rest_of = _all_of([column.path for column in self.rest])
        self._whole = projection.keeps_whole_row
        if not self._whole:
            # The order in which `row` hands over the values. Where a path stands twice, as a column that shows a
            # presence and in the rest, the later place counts, and there the value is.
            self._paths = (*key_paths, *shown, *(column.path for column in self.rest))
            self._built = _builder(projection.row, {path: place for place, path in enumerate(self._paths)})

    def shown(self, key: Key, row: Row) -> dict[str, Any]:
        """The key and the columns by name, as SQL users see them."""
        values = zip(self.columns, self.columns_of(row), strict=True)
        return dict(zip(self.key, key, strict=True)) | {
            column.name: value is not None if column.shows_presence else value for column, value in values
        }

    def row(self, key: Key, columns: Sequence[Any], rest: Any) -> Row:
        """The row of its key, the values of its columns and its rest, or of the whole row that was kept."""
        row: Row = rest if self._whole else self._built((*key, *columns, *(rest or ())))
        return row


def without_none(hint: Any) -> Any:
    """The type of a value that is there: of `X | None` the X."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        left = [part for part in get_args(hint) if part is not type(None)]
        return left[0] if len(left) == 1 else hint
    return hint


def _leaves(kind: type, columns: Sequence[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The row's fields by path; of a part of which a column shows a field, the part's fields."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        path, hint = prefix + field.name, hints[field.name]
        if any(column.startswith(f"{path}.") for column in columns):
            yield from _leaves(hint, columns, f"{path}.")
        else:
            yield path, hint


def _property_type(row: type, name: str) -> Any:
    found = getattr(row, name, None)
    assert isinstance(found, property), f"{row.__name__} has no field and no property {name}"
    return get_type_hints(found.fget, include_extras=True)["return"]


def _all_of(paths: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes the values at the paths from a row."""
    if not paths:
        return lambda _: ()
    # An attrgetter of one path gives the value itself and no tuple.
    found = attrgetter(*paths)
    return found if len(paths) > 1 else lambda row: (found(row),)


def _builder(kind: type, places: Mapping[str, int], prefix: str = "") -> Callable[[Sequence[Any]], Any]:
    """What builds a value of this type from its fields' values, of which each stands at its path's place."""
    hints = get_type_hints(kind)
    parts = {
        field.name: itemgetter(places[path])
        if (path := prefix + field.name) in places
        else _builder(hints[field.name], places, f"{path}.")
        for field in fields(kind)
    }
    return lambda values: kind(**{name: part(values) for name, part in parts.items()})
