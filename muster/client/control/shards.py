"""Keyspaces, data nodes and migrations, as `Client.shards`: read, changed, watched.

    async with Client(actor="ops") as client:
        await client.shards.create_keyspace("users", 256, nodes=("n1", "n2"))
        started = await client.shards.move("users", 17, "n2", reason="n1 is full")
        async for migration in client.shards.follow(started.migration):
            print(migration.step, migration.progress)

Every write is recorded with its actor and reason. For keys and values there is `muster.Keyspace`.
"""

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter

from muster.client.control.sagas import SagaState, SagaVerb
from muster.client.rows import changes_of, page_of, query_of, row_of
from muster.client.transport import Consistency, Transport, path_of
from muster.client.writing import write
from muster.wire.error import InvalidCommand
from muster.wire.read_model import Page
from muster.wire.registry.answers import WRITTEN, Written
from muster.wire.shards.answers import (
    CLUSTER,
    KEYSPACES,
    MIGRATIONS,
    MOVE_STARTED,
    NODES,
    ROUTE,
    SHARD_PAGE,
    ClusterState,
    KeyspaceState,
    Migration,
    MoveStarted,
    Node,
    Route,
    Shard,
    Status,
)

NodeMark = Literal["cordon", "drain"]
T = TypeVar("T")


class ShardControl:
    """Reads and changes keyspaces, data nodes and migrations. Raises the refusals of `muster.wire.error`, as `Client`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    # Keyspaces

    async def create_keyspace(
        self,
        keyspace: str,
        shards: int,
        *,
        nodes: Sequence[str] | None = None,
        value_bytes_max: int | None = None,
        shard_bytes_max: int | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Written:
        """Create a keyspace of `shards` shards, spread over the nodes (None: all that are eligible now). Neither the number
        of shards nor the limits can be changed later (VersionConflict).
        """
        body = _given(
            shards=shards,
            nodes=list(nodes) if nodes is not None else None,
            value_bytes_max=value_bytes_max,
            shard_bytes_max=shard_bytes_max,
        )
        return await self._write("PUT", ("keyspaces", keyspace), body, reason, command_id)

    async def assign(self, keyspace: str, nodes: Sequence[str] | None = None, *, reason: str | None = None) -> Written:
        """Spread the shards without an owner over the nodes (None: all that are eligible now)."""
        body = _given(nodes=list(nodes) if nodes is not None else None)
        return await self._write("POST", ("keyspaces", keyspace, "assign"), body, reason)

    async def keyspaces(self, *, consistency: Consistency = "session") -> Page[KeyspaceState]:
        """All keyspaces, with their shards counted by status."""
        return await page_of(self._transport, KEYSPACES, {}, consistency)

    async def keyspace(self, keyspace: str, *, consistency: Consistency = "session") -> KeyspaceState:
        """One keyspace. Raises KeyspaceNotFound."""
        return await row_of(self._transport, KEYSPACES, (keyspace,), consistency)

    async def shard_map(
        self,
        keyspace: str,
        *,
        owner: str | None = None,
        status: Status | None = None,
        unavailable: bool | None = None,
        consistency: Consistency = "session",
    ) -> Page[Shard]:
        """The keyspace's shards that match; `unavailable`: those that nobody serves, or the others. Raises KeyspaceNotFound."""
        query = {"owner": owner, "status": status, "unavailable": unavailable}
        return await self._read(SHARD_PAGE, ("keyspaces", keyspace, "shards"), query, consistency)

    async def route(self, keyspace: str, key: str, *, consistency: Consistency = "session") -> Route:
        """Where the key is. Raises InvalidShardKey, KeyspaceNotFound."""
        return await self._read(ROUTE, ("keyspaces", keyspace, "route"), {"key": key}, consistency)

    async def pin(self, keyspace: str, shard: int, *, reason: str | None = None) -> Written:
        """Keep the shard where it is."""
        return await self._write("PUT", ("keyspaces", keyspace, "shards", str(shard), "pin"), None, reason)

    async def unpin(self, keyspace: str, shard: int, *, reason: str | None = None) -> Written:
        """Let the shard be moved again."""
        return await self._write("DELETE", ("keyspaces", keyspace, "shards", str(shard), "pin"), None, reason)

    # Data nodes

    async def nodes(self, *, consistency: Consistency = "session") -> Page[Node]:
        """All data nodes."""
        return await page_of(self._transport, NODES, {}, consistency)

    async def set_mark(self, node: str, mark: NodeMark, *, reason: str | None = None) -> Written:
        """`cordon`: no new shards come to the node; `drain`: moreover, all that it has are moved away. Raises NodeNotFound."""
        return await self._write("PUT", ("nodes", node, mark), None, reason)

    async def clear_mark(self, node: str, mark: NodeMark, *, reason: str | None = None) -> Written:
        """Shards may come again; moves under way go on."""
        return await self._write("DELETE", ("nodes", node, mark), None, reason)

    async def remove(self, node: str, *, force: bool = False, reason: str | None = None) -> Written:
        """The node will not come back. `force`: though it owns shards, or is alive."""
        path = path_of("nodes", node) + ("?force=true" if force else "")
        return await write(self._transport, WRITTEN, "DELETE", path, None, reason=reason)

    async def cluster(self, *, consistency: Consistency = "session") -> ClusterState:
        """The limits of concurrent moves."""
        return await self._read(CLUSTER, ("cluster",), {}, consistency)

    async def set_move_limits(
        self, *, node_moves_max: int, cluster_moves_max: int, reason: str | None = None
    ) -> Written:
        """How many moves a node may take part in at a time, and the cluster have. Moves under way go on."""
        body = {"node_moves_max": node_moves_max, "cluster_moves_max": cluster_moves_max}
        return await self._write("PUT", ("cluster", "limits"), body, reason)

    # Migrations

    async def move(
        self,
        keyspace: str,
        shard: int,
        target: str,
        *,
        bytes_per_second: float | None = None,
        hold: bool = False,
        not_before: datetime | None = None,
        soak_seconds: float | None = None,
        cleanup_seconds: float | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> MoveStarted:
        """Move the shard to the target, live. Raises MoveInProgress, ShardPinned, NoShardsAvailable, NodeNotFound.

        `bytes_per_second` limits the copying. Before the cut-over the move waits for `not_before`, or with `hold` for a
        `resume`; after it the source's copy is kept for `soak_seconds`, and `cleanup_seconds` more.
        """
        body = _given(
            shard=shard,
            target=target,
            bytes_per_second=bytes_per_second,
            hold=hold or None,
            not_before=not_before,
            soak_seconds=soak_seconds,
            cleanup_seconds=cleanup_seconds,
        )
        path = path_of("keyspaces", keyspace, "moves")
        return await write(self._transport, MOVE_STARTED, "POST", path, body, reason=reason, command_id=command_id)

    async def migrations(
        self,
        *,
        keyspace: str | None = None,
        state: SagaState | None = None,
        limit: int | None = None,
        consistency: Consistency = "session",
    ) -> Page[Migration]:
        """The newest migrations that match."""
        asked = {"keyspace": keyspace, "state": state, "limit": limit}
        return await page_of(self._transport, MIGRATIONS, asked, consistency)

    async def migration(self, migration: str, *, consistency: Consistency = "session") -> Migration:
        """One migration with its steps, by `keyspace/users/migration/17` or `users/17`. Raises MigrationNotFound."""
        return await row_of(self._transport, MIGRATIONS, parts_of(migration), consistency)

    async def tell(
        self,
        migration: str,
        verb: SagaVerb,
        *,
        step: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Written:
        """Apply a verb to the migration; `skip` names the step. Raises VerbNotAllowed, which lists the allowed verbs."""
        path = ("migrations", *parts_of(migration), verb)
        return await self._write("POST", path, _given(step=step), reason, command_id)

    async def watch_migrations(
        self, *, keyspace: str | None = None, migration: str | None = None, reconnect_seconds_max: float = math.inf
    ) -> AsyncGenerator[tuple[Migration, ...], None]:
        """First the running migrations and the newest ended ones, then those that change, as they do; what they wait for
        and how far they have come counts as a change. See `Client.watch`. Raises MigrationNotFound.
        """
        id_ = migration and "keyspace/{}/migration/{}".format(*parts_of(migration))
        asked = {"keyspace": keyspace, "migration": id_}
        async with aclosing(changes_of(self._transport, MIGRATIONS, asked, reconnect_seconds_max)) as changes:
            async for change in changes:
                yield change.changed

    async def follow(self, migration: str) -> AsyncGenerator[Migration, None]:
        """The migration with its steps, now and after each change, until it ends. Raises MigrationNotFound."""
        async with aclosing(self.watch_migrations(migration=migration)) as changes:
            async for _ in changes:
                # The rows of a watch have no steps. This read is at least as new as the change, whose token the watch
                # has observed.
                found = await self.migration(migration)
                yield found
                if found.ended:
                    return

    # Within

    async def _read(
        self, answer: TypeAdapter[T], parts: tuple[str, ...], query: Mapping[str, Any], consistency: Consistency
    ) -> T:
        return answer.validate_json(await self._transport.read(path_of(*parts), query_of(query), consistency))

    async def _write(
        self,
        method: str,
        parts: tuple[str, ...],
        body: object | None,
        reason: str | None,
        command_id: str | None = None,
    ) -> Written:
        path = path_of(*parts)
        return await write(self._transport, WRITTEN, method, path, body, reason=reason, command_id=command_id)


def parts_of(migration: str) -> tuple[str, str]:
    """The keyspace and the number of `keyspace/users/migration/17`, or `users/17`. Raises InvalidCommand."""
    match migration.split("/"):
        case ["keyspace", keyspace, "migration", number] | [keyspace, number] if number.isdecimal() and keyspace:
            return keyspace, number
        case _:
            raise InvalidCommand(
                f"{migration!r} is no migration; it looks like users/17 or keyspace/users/migration/17",
                field="migration",
            )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
