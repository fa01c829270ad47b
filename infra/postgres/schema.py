"""A schema as the read models use it: whose it is, its own tables, and the views that readers look at.

<schema>.instances, services, instance_history, healthy_instances   views, what users read
<schema>.instances_r3, …                                            tables, one per projection and revision
<schema>.live          which revision of a projection its view shows
<schema>.checkpoint    how far each projection and revision has come in each partition: a log cursor
<schema>.parked        rows that an event could not be folded into; they stand still
<schema>.about         who fills the schema: `projector` or `replay`
"""

import logging
from typing import Any, Final, Literal

import asyncpg

from infra.postgres.table import ReadTable
from muster.wire.error import Refused
from projections.projection import AnyProjection

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
            schema=schema,
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


async def show(connection: Any, schema: str, table: ReadTable[Any]) -> None:
    """Make the projection's view, and the filtered ones of it, show this table."""
    projection, query = table.projection, f"SELECT {', '.join(table.visible)} FROM {table.full_name}"
    # The filtered views first: they would keep the plain one from being dropped.
    for name, (shown, condition) in FILTERED_VIEWS.items():
        if shown == projection.name and condition in table.visible:
            await _point(connection, f"{schema}.{name}", f"{query} WHERE {condition}")
        elif shown == projection.name:
            await connection.execute(f"DROP VIEW IF EXISTS {schema}.{name}")
    await _point(connection, table.view, query)
    await connection.execute(
        f"INSERT INTO {schema}.live VALUES ($1, $2) "
        "ON CONFLICT (projection) DO UPDATE SET revision = excluded.revision",
        *(projection.name, projection.revision),
    )


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
