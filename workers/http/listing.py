"""Reads of any read model, made from its projection: its rows, filtered, one row by its key, and the watch of them.

A projection that says how it is `served` needs no more code than that. Where an answer says more than the row does (the
address of a shard's owner, how far a copy is), a face of its own reads the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

import orjson
from pydantic import Field, create_model

from projections.catalogue import PROJECTIONS
from projections.layout import Layout
from projections.projection import AnyProjection, Key
from workers.http.exchange import JSON_OPTIONS, Reading, Reply, Request
from workers.http.model import list_of
from workers.http.openapi.shape import Shape, shape
from workers.http.reading import Reader
from workers.http.routing import Route
from workers.http.watch.rows import RowKind, RowWatches
from workers.http.watch.stream import settled, stream, watch_route
from workers.http.watch.subscribers import Audience, Topic
from workers.machine.group import Folded


class WatchQuery(Reading):
    """From which token on the rows are watched."""

    after: Annotated[str | None, Field(description="The token to resume from")] = None


@dataclass(frozen=True)
class Shapes:
    """What may be asked of a projection, in a list and in a watch, and what is answered: one row, and a list of them."""

    layout: Layout[Any]
    query: type[Reading]
    watch: type[WatchQuery]
    item: type[Shape]
    items: type[Shape]


class ServedRows:
    """The routes of one projection that is served. `reader` has the views that hold its rows."""

    def __init__(self, reader: Reader, audience: Audience, projection: AnyProjection) -> None:
        assert projection.served is not None, f"{projection.name} is not served"
        self._served = projection.served
        self._reader = reader
        self._audience = audience
        self._watches = RowWatches(reader.gateway.views, audience)
        self._projection = projection
        self._shapes = shapes_of(projection)
        self._layout = self._shapes.layout
        self._kind: RowKind[Key] = RowKind(topics=self._topics, encoded=self._encoded, named="/".join)
        self._watched = False

    def routes(self) -> tuple[Route, ...]:
        """The list; if the projection says what is raised for a key without a row, one row by its key; if it is watched, the
        watch.
        """
        projection, served, shapes, path = self._projection, self._served, self._shapes, f"/v1/{self._served.name}"
        query = shapes.query if served.filters else None
        found = [Route("GET", path, self.rows, projection.summary, projection.tag, answer=shapes.items, query=query)]
        if projection.missing is not None:
            path += "".join(f"/{{{name}}}" for name in projection.key)
            found.append(
                Route("GET", path, self.one, f"One of: {projection.summary}", projection.tag, answer=shapes.item)
            )
        if served.watched:
            found.append(watch_route(served.name, self.watch, projection.tag, shapes.watch))
        return tuple(found)

    async def rows(self, request: Request) -> Reply:
        """All rows that match, in the order of their keys."""
        asked = request.asked(self._shapes.query)
        partitions = await self._settled(request, asked)
        rows = self._reader.gateway.views.rows(self._projection)
        wanted = asked.model_dump(include=set(self._served.filters), exclude_none=True)
        shown = [self._layout.shown(key, rows[key]) for key in sorted(rows)]
        items = [item for item in shown if all(item[name] == value for name, value in wanted.items())]
        return self._reader.listing(orjson.dumps(items, option=JSON_OPTIONS), partitions, self._parked())

    async def one(self, request: Request) -> Reply:
        """The row of the key in the path. Raises what the projection says is missing; NotReady: the row stands still."""
        key = tuple(request.name(name) for name in self._projection.key)
        partitions = await self._settled(request, request.reading())
        shown = self._layout.shown(key, self._reader.gateway.views.row(self._projection, key))
        # Whoever writes behind this reading says by `If-Match` which event was the last; `version` counts the events.
        etag = [(b"etag", b'"%d"' % (shown["version"] - 1))] if "version" in shown else []
        return self._reader.whole(shown, partitions, etag)

    async def watch(self, request: Request) -> None:
        """Stream all rows, or the one whose key is asked for, then those that change, and the keys of those that go. It answers
        by itself: a stream has no reply.
        """
        query = request.asked(self._shapes.watch)
        # Only one whose key has one part can be asked for alone; see `_watch_shape`.
        key = getattr(query, self._projection.key[0], None)
        after = await settled(self._reader, request, query, query.after, range(self._reader.gateway.partitions))
        self._watched = True
        rows = self._reader.gateway.views.rows(self._projection)
        # A list, because rows come and go while the snapshot is being taken.
        found = sorted(rows.items()) if key is None else [((key,), rows[key,])] if (key,) in rows else []
        items = (self._json(each, row) for each, row in found)
        await stream(request, self._audience, *self._watches.join((self._projection.name, key), after, items))

    def on_batch(self, folded: Sequence[Folded]) -> None:
        """Tell those who watch what one batch has changed. To be called by the views."""
        if self._watched:
            touched = self._projection.touched_by_each([recorded for recorded, _ in folded])
            # Each row once, as it is after the batch, in the order of its first event there.
            self._watches.tell(self._kind, dict.fromkeys(key for key in touched if key is not None))

    def _topics(self, key: Key) -> tuple[Topic, Topic]:
        """Whoever watches all rows hears of the row, and whoever watches it alone."""
        return (self._projection.name, None), (self._projection.name, "/".join(key))

    def _encoded(self, key: Key) -> bytes | None:
        row = self._reader.gateway.views.rows(self._projection).get(key)
        return None if row is None else self._json(key, row)

    def _json(self, key: Key, row: object) -> bytes:
        return orjson.dumps(self._layout.shown(key, row), option=JSON_OPTIONS)

    async def _settled(self, request: Request, reading: Reading) -> Sequence[int]:
        # Each partition may have rows of this read model, also of a key that is known.
        partitions = tuple(range(self._reader.gateway.partitions))
        await self._reader.settle(reading, request.header(b"muster-token"), partitions)
        return partitions

    def _parked(self) -> list[str]:
        parked = self._reader.gateway.views.parked
        return ["/".join(key) for name, key in parked if name == self._projection.name]


def routes(reader: Reader, audience: Audience, projections: Sequence[AnyProjection] = PROJECTIONS) -> tuple[Route, ...]:
    """The routes of all projections that are served. Those that are watched hear of each batch from now on."""
    served = [ServedRows(reader, audience, projection) for projection in projections if projection.served is not None]
    for each in served:
        reader.gateway.views.follow(each.on_batch)
    return tuple(route for each in served for route in each.routes())


# Kept: to make them takes as long as thousands of requests, and a process may have several controllers.
@cache
def shapes_of(projection: AnyProjection) -> Shapes:
    """The shapes of a projection that is served."""
    served, layout = projection.served, Layout(projection)
    assert served is not None, f"{projection.name} is not served"
    promised = {field.name for field in fields(served.item)}
    shown = {*projection.key, *(column.name for column in layout.columns)}
    assert promised == shown, f"{projection.name}: only one of row and answer has {sorted(promised ^ shown)}"
    item = shape(served.item, f"{served.item.__name__}Item", parts=_parts(served.item))
    items = list_of(item, f"{served.name.capitalize()}.")
    return Shapes(layout, _query_shape(projection, layout), _watch_shape(projection), item, items)


def _parts(item: type) -> dict[object, type[Shape]]:
    """The shapes of what an item has several of, by what they stand for."""
    inner = {part for hint in get_type_hints(item).values() for part in get_args(hint)}
    return {part: shape(part, part.__name__) for part in inner if isinstance(part, type) and is_dataclass(part)}


def _watch_shape(projection: AnyProjection) -> type[WatchQuery]:
    """What a watch may be asked: from which token on, and the row that is meant, if a key has one part."""
    if len(projection.key) != 1:
        return WatchQuery
    [name] = projection.key
    fields: dict[str, Any] = {name: (Annotated[str | None, Field(description=f"Only the row of this {name}")], None)}
    return create_model(f"{projection.name.title()}WatchQuery", __base__=WatchQuery, **fields)


def _query_shape(projection: AnyProjection, layout: Layout[Any]) -> type[Reading]:
    """What a list may be asked: how current it has to be, and for each filter the value that a row must have."""
    types: dict[str, Any] = dict.fromkeys(projection.key, str)
    types |= {column.name: column.type for column in layout.columns}
    fields: dict[str, Any] = {
        name: (Annotated[types[name] | None, Field(description=f"Only those with this {name}")], None)
        for name in (projection.served.filters if projection.served is not None else ())
    }
    return create_model(f"{projection.name.title()}Query", __base__=Reading, **fields)
