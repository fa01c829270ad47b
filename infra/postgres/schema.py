"""A schema as the read models use it: whose it is, its own tables, and the views that readers look at.

<schema>.instances, services, instance_history, healthy_instances   views, what users read; see `infra.postgres.view`
<schema>.instances_r4, …                                            tables, one per projection and revision
<schema>.live          which revision of a projection its view shows
<schema>.checkpoint    how far each projection and revision has come in each partition: a log cursor
<schema>.parked        rows that an event could not be folded into; they stand still
<schema>.about         who fills the schema: `projector` or `replay`
<schema>.service_loads, shard_loads   what is told now, without a place in the log; see `infra.postgres.load_tables`
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import asyncpg

from infra.postgres.table import AnyTable, ReadTable
from infra.postgres.view import COMMENTS, View, view_of
from muster.wire.error import Refused
from projections.data_nodes import DATA_NODES
from projections.projection import AnyProjection
from projections.shards import SHARDS

_logger: Final = logging.getLogger("muster.read_store")

Purpose = Literal["projector", "replay"]

FILTERED_VIEWS: Final[dict[str, tuple[str, str]]] = {"healthy_instances": ("instances", "discoverable")}
"""Further views by name: the projection they show, and the condition on its columns."""

_OWN_TABLES: Final = """
CREATE TABLE IF NOT EXISTS {0}.about (
    purpose text NOT NULL, since timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS {0}.live (
    projection text PRIMARY KEY, revision integer NOT NULL);
CREATE TABLE IF NOT EXISTS {0}.checkpoint (
    projection text, revision integer, partition integer,
    position bigint NOT NULL, head_position bigint NOT NULL, head bytea NOT NULL,
    term bigint NOT NULL, writer text NOT NULL,
    PRIMARY KEY (projection, revision, partition));
CREATE TABLE IF NOT EXISTS {0}.parked (
    projection text, revision integer, key text[], partition integer NOT NULL,
    position bigint NOT NULL, reason text NOT NULL,
    PRIMARY KEY (projection, revision, key));
"""


class SchemaTaken(Refused):
    """The schema holds something that is not ours to overwrite."""


async def take(connection: Any, schema: str, purpose: Purpose, *, overwrite: bool) -> None:
    """Create the schema, or check that it serves this purpose. A replay begins with an empty one. Raises SchemaTaken."""
    used = await connection.fetchval(
        "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($1)::oid", schema
    )
    known = used and await connection.fetchval("SELECT to_regclass($1)", f"{schema}.about")
    found = await connection.fetchval(f"SELECT purpose FROM {schema}.about") if known else None
    if used and found != purpose and not (purpose == "replay" and overwrite):
        raise SchemaTaken(
            f"schema {schema} is filled by {found or 'something else'}, not by a {purpose}; choose another one"
            + (", or --overwrite" if purpose == "replay" else ""),
            schema=schema.strip('"'),
        )
    if used and purpose == "replay":
        # In our caller's transaction: when the preparation fails, the old schema is still there.
        await connection.execute(f"DROP SCHEMA {schema} CASCADE")
    if not used or purpose == "replay":
        # A role that may fill a schema need not be one that may create schemas.
        if await connection.fetchval("SELECT to_regnamespace($1) IS NULL", schema):
            await connection.execute(f"CREATE SCHEMA {schema}")
        await connection.execute(_OWN_TABLES.format(schema))
        await connection.execute(f"INSERT INTO {schema}.about (purpose) VALUES ($1)", purpose)


async def show(connection: Any, schema: str, table: AnyTable) -> None:
    """Make the projection's view, and the filtered ones of it, show this table."""
    projection = table.projection
    await connection.execute(
        f"INSERT INTO {schema}.live VALUES ($1, $2) "
        "ON CONFLICT (projection) DO UPDATE SET revision = excluded.revision",
        *(projection.name, projection.revision),
    )
    live = await _live(connection, schema)
    await _show(connection, table, view_of(table, live))
    # The view of shards joins the table of data nodes: it goes on to the one that is shown now.
    if projection.name == DATA_NODES.name and live.get(SHARDS.name) == SHARDS.revision:
        shards = ReadTable(SHARDS, schema)
        await _show(connection, shards, view_of(shards, live))


async def _show(connection: Any, table: AnyTable, view: View) -> None:
    schema, projection = table.schema, table.projection.name
    commented = [*_comments(schema, projection, view.columns)]
    # The filtered views first: they would keep the plain one from being dropped.
    for name, (shown, condition) in FILTERED_VIEWS.items():
        if shown == projection and condition in table.visible:
            await _point(connection, f"{schema}.{name}", view.query(condition))
            commented += _comments(schema, name, ())
        elif shown == projection:
            await connection.execute(f"DROP VIEW IF EXISTS {schema}.{name}")
    await _point(connection, table.view, view.query())
    for statement in commented:
        await connection.execute(statement)


def _comments(schema: str, view: str, columns: Iterable[str]) -> Iterator[str]:
    """What says in the database what the view, and those of its columns, are about."""
    # PostgreSQL takes no parameters here; the texts are our own, and have no quotes.
    if view in COMMENTS:
        yield f"COMMENT ON VIEW {schema}.{view} IS '{COMMENTS[view]}'"
    for column in columns:
        if (about := COMMENTS.get(f"{view}.{column}")) is not None:
            yield f"""COMMENT ON COLUMN {schema}.{view}."{column}" IS '{about}'"""


async def show_further(connection: Any, schema: str, table: AnyTable) -> None:
    """Give the view the columns that it does not have yet: an older muster may have made it."""
    view = view_of(table, await _live(connection, schema))
    found = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        table.view,
    )
    if view.columns.keys() <= {name for (name,) in found}:
        return
    try:
        async with connection.transaction():
            # As below: a view waits for those who read it, and those who come later wait behind it.
            await connection.execute("SET LOCAL lock_timeout = '2s'")
            await _show(connection, table, view)
    except asyncpg.LockNotAvailableError as error:
        _logger.warning("the view of %s is in use, and stays as it is: %s", table.projection.name, error)


async def _live(connection: Any, schema: str) -> dict[str, int]:
    return dict(await connection.fetch(f"SELECT projection, revision FROM {schema}.live"))


async def _point(connection: Any, view: str, query: str) -> None:
    try:
        # A savepoint, so that a refused attempt does not end the transaction around it.
        async with connection.transaction():
            await connection.execute(f"CREATE OR REPLACE VIEW {view} AS {query}")
    except asyncpg.InvalidTableDefinitionError:
        # Columns went away or changed their types; the view cannot be replaced, so it is made anew.
        await connection.execute(f"DROP VIEW {view}")
        await connection.execute(f"CREATE VIEW {view} AS {query}")


async def drop_older(connection: Any, schema: str, projection: AnyProjection) -> None:
    """Drop the tables of older revisions; those that are in use stay until the next start."""
    older = await connection.fetch(
        f"SELECT DISTINCT revision FROM {schema}.checkpoint WHERE projection = $1 AND revision < $2",
        *(projection.name, projection.revision),
    )
    for (revision,) in older:
        try:
            async with connection.transaction():
                # While a DROP waits for its lock, every new reader queues behind it. So it does not wait for long.
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                await connection.execute(f"DROP TABLE IF EXISTS {schema}.{projection.name}_r{revision}")
        except (asyncpg.DependentObjectsStillExistError, asyncpg.LockNotAvailableError) as error:
            _logger.warning("the old table of %s is still in use: %s", projection.name, error)
            continue
        # Last, because the next start finds the tables that it still has to drop by these rows.
        for table in ("checkpoint", "parked"):
            await connection.execute(
                f"DELETE FROM {schema}.{table} WHERE projection = $1 AND revision = $2",
                *(projection.name, revision),
            )
