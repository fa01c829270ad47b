"""Routes by the templates of their paths, on plain ASGI: for all that is neither matched by hand nor FastAPI's."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from workers.http.exchange import Reply, Request
from workers.http.metric import Metrics, Requests

Handler = Callable[[Request], Awaitable[Reply | None]]
Handlers = Mapping[tuple[str, str], Handler]
"""By method and template, like `GET` and `/v1/keyspaces/{keyspace}`."""


@dataclass(frozen=True, slots=True)
class Route:
    """A template in its parts, and what answers there, by method."""

    parts: tuple[str, ...]
    methods: dict[str, tuple[Handler, Requests]] = field(default_factory=dict)

    def names(self, parts: list[str]) -> dict[str, str] | None:
        """The names in the path (as many parts as the template has), by what they name; None: another path."""
        names = {}
        for wanted, found in zip(self.parts, parts, strict=True):
            if wanted[:1] == "{" and found:
                names[wanted[1:-1]] = found
            elif wanted != found:
                return None
        return names


class Routes:
    """All routes, by how many parts their paths have and by the third one, the resource."""

    def __init__(self, handlers: Handlers, metrics: Metrics) -> None:
        self._routes: dict[tuple[int, str], list[Route]] = {}
        for (method, template), handler in handlers.items():
            self._route(template).methods[method] = (handler, metrics.of(template, method))

    def _route(self, template: str) -> Route:
        parts = tuple(template.split("/"))
        alike = self._routes.setdefault((len(parts), parts[2]), [])
        found = next((route for route in alike if route.parts == parts), None)
        if found is None:
            found = Route(parts)
            alike.append(found)
        return found

    def find(self, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route of this path and the names in it; the first that fits, in the order of the table."""
        parts = path.split("/")
        for route in self._routes.get((len(parts), parts[2]), ()) if len(parts) > 2 else ():
            names = route.names(parts)
            if names is not None:
                return route, names
        return None
