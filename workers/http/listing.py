"""Reads of any read model, made from its projection: `GET /v1/<path>`, filtered, and `GET /v1/<path>/{key}`.

A projection that names a `path` is served here with no more code. Where an answer says more than the row does (the address of
a shard's owner, how far a copy is), a face of its own reads the same rows.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, Field, create_model

from projections.catalogue import PROJECTIONS
from projections.layout import Layout
from projections.projection import AnyProjection
from projections.services import SERVICES
from workers.http.exchange import JSON_OPTIONS, Reading, Reply, Request
from workers.http.model import Listing, ServiceList
from workers.http.openapi.shape import Shape
from workers.http.reading import Reader
from workers.http.routing import Route

_ANSWERS: Final[Mapping[str, type[BaseModel]]] = {SERVICES.name: ServiceList}
"""Shapes that have a name and a text of their own in the document; the others are made from the row."""


class ReadModel:
    """The routes of one projection. `reader` has the views that hold its rows."""

    def __init__(self, reader: Reader, projection: AnyProjection) -> None:
        self._reader = reader
        self._projection = projection
        self._layout: Layout[Any] = Layout(projection)
        self._query = _query_shape(projection, self._layout)

    def routes(self) -> tuple[Route, ...]:
        """The list and, if the projection says what is raised for a key without a row, one row by its key."""
        projection, path = self._projection, f"/v1/{self._projection.path}"
        item: Any = _item_shape(projection, self._layout)
        answer = _ANSWERS.get(projection.name) or create_model(
            f"{item.__name__}List", __base__=Listing, __doc__=projection.summary, items=(list[item], ...)
        )
        query = self._query if projection.filters else None
        found = [Route("GET", path, self.rows, projection.summary, projection.tag, answer=answer, query=query)]
        if projection.missing is not None:
            path += "".join(f"/{{{name}}}" for name in projection.key)
            found.append(Route("GET", path, self.one, f"One of: {projection.summary}", projection.tag, answer=item))
        return tuple(found)

    async def rows(self, request: Request) -> Reply:
        """All rows that match, in the order of their keys."""
        asked = request.asked(self._query)
        partitions = await self._settled(request, asked)
        rows = self._reader.gateway.views.rows(self._projection)
        wanted = asked.model_dump(include=set(self._projection.filters), exclude_none=True)
        shown = [self._layout.shown(key, rows[key]) for key in sorted(rows)]
        items = [item for item in shown if all(item[name] == value for name, value in wanted.items())]
        return self._reader.listing(orjson.dumps(items, option=JSON_OPTIONS), partitions, self._parked())

    async def one(self, request: Request) -> Reply:
        """The row of the key in the path. Raises what the projection says is missing; NotReady: the row stands still."""
        key = tuple(request.name(name) for name in self._projection.key)
        partitions = await self._settled(request, request.reading())
        row = self._reader.gateway.views.row(self._projection, key)
        return self._reader.whole(self._layout.shown(key, row), partitions)

    async def _settled(self, request: Request, reading: Reading) -> Sequence[int]:
        # Any partition may have rows of this read model, also of a key that is known.
        partitions = tuple(range(self._reader.gateway.partitions))
        await self._reader.settle(reading, request.header(b"muster-token"), partitions)
        return partitions

    def _parked(self) -> list[str]:
        parked = self._reader.gateway.views.parked
        return ["/".join(key) for name, key in parked if name == self._projection.name]


def routes(reader: Reader, projections: Sequence[AnyProjection] = PROJECTIONS) -> tuple[Route, ...]:
    """The routes of all projections that name a path."""
    served = [ReadModel(reader, projection) for projection in projections if projection.path is not None]
    return tuple(route for model in served for route in model.routes())


def _item_shape(projection: AnyProjection, layout: Layout[Any]) -> type[BaseModel]:
    """The shape of an item: the key and the columns, as `Layout.shown` gives them."""
    fields: dict[str, Any] = dict.fromkeys(projection.key, (str, ...))
    fields |= {column.name: (bool if column.shows_presence else column.type, ...) for column in layout.columns}
    name = projection.row.__name__.removesuffix("Row")
    return create_model(name, __base__=Shape, __doc__=projection.row.__doc__, **fields)


def _query_shape(projection: AnyProjection, layout: Layout[Any]) -> type[Reading]:
    """What a list may be asked: how current it has to be, and for each filter the value that a row must have."""
    types: dict[str, Any] = dict.fromkeys(projection.key, str)
    types |= {column.name: column.type for column in layout.columns}
    fields: dict[str, Any] = {
        name: (Annotated[types[name] | None, Field(description=f"Only those with this {name}")], None)
        for name in projection.filters
    }
    return create_model(f"{projection.name.title()}Query", __base__=Reading, **fields)
