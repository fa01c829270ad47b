"""The table of the HTTP API: its rows, and how the row of a request is found.

Each face lists its operations as rows (`routes` of its module); `application` joins them to one table. The dispatcher, the
OpenAPI document and the labels of the metrics are made from the rows alone.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Generic, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel

from muster.wire.command import Command
from workers.http.exchange import Reply, Request

Handler = Callable[[Request], Awaitable[Reply | None]]
"""Answers a request; None: it has answered by itself, as a stream."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: a method and a path, like `/v1/keyspaces/{keyspace}`, and what answers there.

    `answer` is the type of the answer, None for a stream. `command` is the command that the operation gives; its fields are those
    of the body, but for those in the path. `body` is given where the body has other fields than the command; `reasoned`: it may
    have a `reason`. `query` holds the parameters of an operation that takes more than all of its kind do.
    """

    method: str
    path: str
    handler: Handler
    summary: str = ""
    tag: str = ""
    answer: type | None = None
    command: type[Command] | None = None
    body: type | None = None
    reasoned: bool = False
    query: type[BaseModel] | None = None
    description: str | None = None
    """Set in operations that are documented in the older form; see `workers.http.openapi.older`."""
    documented: bool = True


class PathTemplate(Generic[Found]):
    """What is found at one path template, by method, and where the names of the template stand among the parts of a path."""

    __slots__ = ("methods", "names")

    def __init__(self, parts: Sequence[str]) -> None:
        self.names = {part[1:-1]: index for index, part in enumerate(parts) if part[:1] == "{"}
        self.methods: dict[str, Found] = {}


_Shape = tuple[Callable[[Sequence[str]], object], dict[object, PathTemplate[Found]]]
"""Templates of one length that have their literal parts in the same places: what picks those out of a path, and the templates by
them. One look-up finds the template that fits.
"""


class Table(Generic[Found]):
    """Finds by path what was put in for a method and a path template. Where two templates fit, more literal parts win."""

    def __init__(self, rows: Iterable[tuple[str, str, Found]]) -> None:
        self._plain: dict[str, PathTemplate[Found]] = {}
        shapes: dict[tuple[int, tuple[int, ...]], _Shape[Found]] = {}
        for method, path, found in rows:
            methods = self._place(path, shapes).methods
            # Otherwise the later row would take the earlier one's place, and nobody would notice.
            assert method not in methods, f"two rows for {method} {path}"
            methods[method] = found
        self._shapes: dict[int, list[_Shape[Found]]] = {}
        # Most literal parts first: `find` takes the first template that fits.
        for (length, _), shape in sorted(shapes.items(), key=lambda item: -len(item[0][1])):
            self._shapes.setdefault(length, []).append(shape)

    def _place(self, path: str, shapes: dict[tuple[int, tuple[int, ...]], _Shape[Found]]) -> PathTemplate[Found]:
        parts = path.split("/")
        if "{" not in path:
            return self._plain.setdefault(path, PathTemplate(parts))
        # Index 0 is the empty text before the first slash: every path has it, so it tells nothing apart.
        literals = tuple(index for index, part in enumerate(parts) if index and part[:1] != "{")
        pick, places = shapes.setdefault((len(parts), literals), (itemgetter(*literals), {}))
        return places.setdefault(pick(parts), PathTemplate(parts))

    def find(self, path: str) -> tuple[PathTemplate[Found], Sequence[str]] | None:
        """The template that fits the path as it was sent (`%2F` and all), and its parts; or None. The caller checks the names."""
        plain = self._plain.get(path)
        if plain is not None:
            return plain, ()
        parts = path.split("/")
        if "%" in path:
            # Only now: a slash that was written as %2F belongs to a name, and makes no other path of it.
            parts = [unquote(part) for part in parts]
        if not parts[-1]:  # What ends in a slash names nothing.
            return None
        for pick, places in self._shapes.get(len(parts), ()):
            place = places.get(pick(parts))
            if place is not None:
                return place, parts
        return None


INSTANCE: Final = "/v1/services/{service}/instances/{instance}"
"""The path of an instance."""
