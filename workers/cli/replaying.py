"""`muster replay`: the read models rebuilt up to a point, and shown as JSON or as tables."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from muster.cli.outcome import say
from muster.cli.table import table
from muster.cli.text import instant
from workers.cli.place import LogPlace, opened, progress_line

if TYPE_CHECKING:
    from infra.log.engine import PartitionLog
    from workers.audit.replay import Replayed


def projections_of(names: Sequence[str]) -> list[Any]:
    """The projections of these names, all when none is given. Raises BadParameter for an unknown one."""
    from projections.catalogue import PROJECTIONS

    known = {projection.name: projection for projection in PROJECTIONS}
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(f"there is no {unknown[0]!r}; known: {', '.join(known)}", param_hint="--projection")
    return [known[name] for name in names] or list(PROJECTIONS)


def point_of(to: str | None) -> dict[str, Any]:
    """`120` is a position, `0:120,1:77` one per partition, as in a token, anything else must be a time."""
    from muster.wire.token import is_token, parse_token, positions_of

    if to is None:
        return {}
    if to.isdecimal():
        return {"to_position": int(to)}
    # No time gets in here: its date has dashes.
    if is_token(to):
        return {"to_position": positions_of(parse_token(to))}
    try:
        at = datetime.fromisoformat(to)
    except ValueError:
        raise click.BadParameter(
            f"{to!r} is no position and no time like 2026-01-31T12:00:00Z", param_hint="--to"
        ) from None
    # It would be another instant on a machine in another time zone.
    if at.tzinfo is None:
        raise click.BadParameter(f"{to!r} needs an offset, like Z or +02:00", param_hint="--to")
    return {"to_time": at}


async def replayed(
    place: LogPlace,
    projections: Sequence[Any],
    point: dict[str, Any],
    into: str | None,
    schema: str,
    *,
    overwrite: bool,
    quiet: bool,
) -> "Replayed":
    """The rows up to the point, also written to the database `into` if one is given."""
    from infra.log.codec import CloudEventMapper
    from infra.postgres.store import ReadStore
    from workers.audit.replay import replay

    with progress_line(quiet) as tell:

        def progress(partition: int, position: int, events: int) -> None:
            tell(f"{events:,} events, partition {partition} up to position {position:,}")

        async def work(logs: "Sequence[PartitionLog]", store: ReadStore | None) -> "Replayed":
            return await replay(
                logs,
                CloudEventMapper(),
                projections=projections,
                into=store,
                overwrite=overwrite,
                progress=progress,
                **point,
            )

        async with opened(place) as logs:
            if into is None:
                return await work(logs, None)
            async with ReadStore(into, schema=schema) as store:
                return await work(logs, store)


def replayed_document(result: "Replayed", projections: Sequence[Any]) -> dict[str, Any]:
    """The result for programs."""
    return {
        "events": result.events,
        "voids": result.voids,
        "last_at": result.last_at,
        "positions": {number: cursor.position for number, cursor in result.cursors.items()},
        "parked": result.parked,
        "rows": {
            projection.name: [_row(projection, key, row) for key, row in sorted(result.rows[projection.name].items())]
            for projection in projections
        },
    }


def show_replayed(result: "Replayed", projections: Sequence[Any], *, rows: bool) -> None:
    """A summary; with `rows` the rows themselves, else their counts."""
    positions = ", ".join(f"{number}:{cursor.position}" for number, cursor in sorted(result.cursors.items()))
    last = f", the last at {instant(result.last_at)}" if result.last_at else ""
    say(f"{result.events:,} events up to {positions}{last}; {result.voids:,} void records passed")
    if not rows:
        counts = [(name, f"{len(found):,}", f"{len(result.parked[name]):,}") for name, found in result.rows.items()]
        table(("PROJECTION", "ROWS", "PARKED"), counts)
        return
    for projection in projections:
        found = [_row(projection, key, row) for key, row in sorted(result.rows[projection.name].items())]
        columns = list(found[0]) if found else list(projection.key)
        say("")
        say(projection.name)
        table([name.upper() for name in columns], [[_cell(value) for value in row.values()] for row in found])


def _row(projection: Any, key: tuple[str, ...], row: Any) -> dict[str, Any]:
    from projections.layout import Layout

    return Layout(projection).shown(key, row)


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{name}={inner}" for name, inner in value.items())
    return "" if value is None else str(value)
