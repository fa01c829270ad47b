"""Watches of shards, tasks and migrations: a change is encoded once, and sent to all who watch it.

    views.shards ──on_batch──▶ one frame per keyspace, node or migration that is watched ──▶ its audience

`workers.http.watch.rows` says how rows are watched.

How far a step has come, and what a migration waits for in the cluster, changes without an event of its own: watchers hear of it
at most once in `refresh_seconds`.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import orjson
from pydantic import Field

from muster.wire.stream import Name, name_of
from muster.wire.token import Positions
from workers.http.exchange import JSON_OPTIONS, Reading, Request
from workers.http.reading import Reader
from workers.http.routing import Route
from workers.http.sagas.answers import newest_first
from workers.http.shards.answers import is_migration, migration_item, shard_item, task_item
from workers.http.watch.frames import Resumed
from workers.http.watch.rows import RowKind, RowWatches
from workers.http.watch.stream import settled, stream, watch_route
from workers.http.watch.subscribers import Audience, Subscriber, Topic
from workers.views.shards import ShardsChanged
from workers.views.views import Views

refresh_seconds: Final = 1.0
refreshed_waiting_max: Final = 100
ended_migrations_max: Final = 100


def _encode(item: object) -> bytes:
    return orjson.dumps(item, option=JSON_OPTIONS)


class ShardHub:
    """What happens to shards, tasks and migrations, for those who watch them. The views' `shards` call `on_batch`."""

    def __init__(self, views: Views, audience: Audience) -> None:
        self._views = views
        self._audience = audience
        self._watches = RowWatches(views, audience)
        self._shards: RowKind[tuple[str, int]] = RowKind(topics=_topics_of("shards"), encoded=self._shard)
        self._tasks: RowKind[tuple[str, str]] = RowKind(
            topics=_topics_of("tasks"), encoded=self._task, named=lambda key: key[1]
        )
        self._migrations: RowKind[str] = RowKind(topics=self._migration_topics, encoded=self._migration)
        self._due: set[str] = set()
        self._refreshing: asyncio.TimerHandle | None = None

    def on_batch(self, partition: int, token: Positions, changed: ShardsChanged) -> None:
        """Tell those who watch what one batch has changed."""
        # Nothing is kept for those who come later: they begin with a snapshot.
        if not len(self._audience):
            return
        self._watches.tell(self._shards, sorted(changed.shards))
        self._watches.tell(self._tasks, changed.tasks)
        self._watches.tell(self._migrations, changed.migrations)
        if (changed.asked or changed.nodes) and (
            self._audience.watches("migrations") or self._audience.watches("migration")
        ):
            self._refresh(self._waiting(changed))

    def progressed(self, migration: str) -> None:
        """A participant has said how far it has come."""
        if len(self._audience):
            self._refresh((migration,))

    def close(self) -> None:
        """Refresh nothing any more."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    def shards(self, keyspace: str | None, after: Resumed) -> tuple[Subscriber, Iterator[bytes]]:
        """A watcher of the keyspace's shards (None: of all) and its first frames. Raises KeyspaceNotFound."""
        views = self._views.shards
        # A map of its own: keyspaces may come while the snapshot is being taken.
        spaces = dict(views.keyspaces) if keyspace is None else {keyspace: views.keyspace(keyspace)}
        cluster = views.cluster
        items = (
            _encode(shard_item(name, space, number, cluster))
            for name, space in spaces.items()
            for number in range(space.count)
        )
        head = b'"shards":%d,' % sum(space.count for space in spaces.values())
        return self._watches.join(("shards", keyspace), after, items, head)

    def tasks(self, node: str | None, after: Resumed) -> tuple[Subscriber, Iterator[bytes]]:
        """A watcher of the node's tasks (None: of all nodes') and its first frames."""
        views = self._views.shards
        wanted = views.tasks.values() if node is None else [views.tasks.get(node, {})]
        # A list, because tasks come and go while the snapshot is being taken.
        rows, cluster = [task for tasks in wanted for task in tasks.values()], views.cluster
        return self._watches.join(("tasks", node), after, (_encode(task_item(row, cluster)) for row in rows))

    def migrations(
        self, keyspace: str | None, migration: str | None, after: Resumed
    ) -> tuple[Subscriber, Iterator[bytes]]:
        """A watcher of one migration, or of a keyspace's (None: of all), and its first frames: those that run, and the
        newest that have ended, newest first. Raises MigrationNotFound.
        """
        views, now = self._views.shards, datetime.now(UTC)
        if migration is not None:
            rows = [views.migration(migration)]
        else:
            # The views have sagas of all kinds here.
            every = filter(is_migration, views.migrations.values())
            found = [row for row in every if keyspace in (None, row.data.get("keyspace"))]
            running = newest_first((row for row in found if row.ended_at is None), len(found))
            rows = running + newest_first((row for row in found if row.ended_at is not None), ended_migrations_max)
        topic: Topic = ("migrations", keyspace) if migration is None else ("migration", migration)
        return self._watches.join(topic, after, (_encode(migration_item(views, row, now)) for row in rows))

    def _shard(self, key: tuple[str, int]) -> bytes:
        views, (name, number) = self._views.shards, key
        return _encode(shard_item(name, views.keyspaces[name], number, views.cluster))

    def _task(self, key: tuple[str, str]) -> bytes | None:
        views, (node, id_) = self._views.shards, key
        task = views.tasks.get(node, {}).get(id_)
        return None if task is None else _encode(task_item(task, views.cluster))

    def _migration_topics(self, id_: str) -> tuple[Topic, ...]:
        row = self._views.shards.migrations.get((id_,))
        # The views have sagas of all kinds here.
        if row is None or not is_migration(row):
            return ()
        return ("migrations", None), ("migrations", name_of(id_)), ("migration", id_)

    def _migration(self, id_: str) -> bytes:
        views = self._views.shards
        return _encode(migration_item(views, views.migrations[(id_,)], datetime.now(UTC)))

    def _waiting(self, changed: ShardsChanged) -> Iterator[str]:
        """The migrations whose reason for waiting may have changed: those that hold or want slots, and those at changed nodes."""
        cluster, migrations = self._views.shards.cluster, self._views.shards.migrations
        yield from cluster.held
        yield from cluster.queue[:refreshed_waiting_max]
        if changed.nodes:
            for (id_,), row in migrations.items():
                if row.ended_at is None and not changed.nodes.isdisjoint(
                    (row.data.get("source"), row.data.get("target"))
                ):
                    yield id_

    def _refresh(self, migrations: Iterable[str]) -> None:
        self._due.update(migrations)
        if self._due and self._refreshing is None:
            # One timer for all: reports may come often, and each migration is sent once for all of them.
            self._refreshing = asyncio.get_running_loop().call_later(refresh_seconds, self._refreshed)

    def _refreshed(self) -> None:
        due, self._due, self._refreshing = self._due, set(), None
        self._watches.tell(self._migrations, due)


def _topics_of(kind: str) -> Callable[[tuple[str, object]], tuple[Topic, ...]]:
    """Those who watch the first part of the key, a keyspace or a node, and those who watch all."""
    return lambda key: ((kind, key[0]), (kind, None))


OfKeyspace = Annotated[Name | None, Field(description="Only this keyspace's")]
After = Annotated[str | None, Field(description="The token to resume from")]


class ShardsQuery(Reading):
    """Which shards are watched, and from which token on."""

    keyspace: OfKeyspace = None
    after: After = None


class TasksQuery(Reading):
    """Whose tasks are watched, and from which token on."""

    node: Annotated[Name | None, Field(description="Only this node's")] = None
    after: After = None


class MigrationsQuery(Reading):
    """Which migrations are watched, and from which token on. A migration is named by its id."""

    keyspace: OfKeyspace = None
    migration: Annotated[str | None, Field(description="Only this one, by its id")] = None
    after: After = None


@dataclass(frozen=True, slots=True)
class ShardWatching:
    """The watch routes. They answer by themselves: a stream has no reply."""

    reader: Reader
    audience: Audience
    hub: ShardHub

    async def shards(self, request: Request) -> None:
        """Stream a keyspace's shards, or all."""
        query = request.asked(ShardsQuery)
        after = await self._settled(request, query, query.after)
        await stream(request, self.audience, *self.hub.shards(query.keyspace, after))

    async def tasks(self, request: Request) -> None:
        """Stream a node's tasks, or all."""
        query = request.asked(TasksQuery)
        after = await self._settled(request, query, query.after)
        await stream(request, self.audience, *self.hub.tasks(query.node, after))

    async def migrations(self, request: Request) -> None:
        """Stream one migration, a keyspace's, or all."""
        query = request.asked(MigrationsQuery)
        after = await self._settled(request, query, query.after)
        await stream(request, self.audience, *self.hub.migrations(query.keyspace, query.migration, after))

    async def _settled(self, request: Request, reading: Reading, after: str | None) -> Resumed:
        return await settled(self.reader, request, reading, after, range(self.reader.gateway.partitions))


def routes(reader: Reader, audience: Audience, hub: ShardHub) -> tuple[Route, ...]:
    """The watches of shards, tasks and migrations."""
    watching = ShardWatching(reader, audience, hub)

    return (
        watch_route("shards", watching.shards, "shards", ShardsQuery),
        watch_route("tasks", watching.tasks, "shards", TasksQuery),
        watch_route("migrations", watching.migrations, "shards", MigrationsQuery),
    )
