"""Commands that read the log itself: verify and replay. The embedded log may be in use by a controller meanwhile."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from rich.console import Console

from muster.cli.outcome import REFUSED, json_option, run, show
from muster.cli.table import instant, table
from workers.cli.server import data_option, prefix_option

if TYPE_CHECKING:
    from infra.log.engine import PartitionLog
    from workers.audit.replay import Replayed
    from workers.audit.verify import Report
    from workers.audit.verify_moves import MovesReport

F = TypeVar("F", bound=Callable[..., Any])

_kafka_option: Final = click.option("--kafka", metavar="HOST:PORT", help="Read the log on Kafka, not the data folder.")
_partitions_option: Final = click.option(
    "--partitions", type=click.IntRange(min=1), help="Of the log.  [default: 1, on Kafka 8]"
)


@dataclass(frozen=True, slots=True)
class Where:
    """Where the log is: in a data folder, or on Kafka."""

    data: Path
    kafka: str | None
    partitions: int | None
    prefix: str


def where(command: F) -> F:
    """The options that say where the log is."""
    for option in (prefix_option, _partitions_option, _kafka_option, data_option):
        command = option(command)
    return command


@click.command()
@where
@click.option("--fold", is_flag=True, help="Also let the domain fold every event; holds the whole state in memory.")
@click.option("--moves", is_flag=True, help="Also hold every move of a shard against the invariants of moves.")
@json_option
def verify(
    data: Path, kafka: str | None, partitions: int | None, prefix: str, fold: bool, moves: bool, json: bool
) -> None:
    """Walk the whole log: chain, terms, stream versions, decoding. Exit code 1: damaged, at the position that is told."""
    place = Where(data, kafka, partitions, prefix)
    reports = run(lambda: _verify(place, fold=fold, quiet=json), json=json)
    broken = any(report.breach is not None for report in reports)
    moved = run(lambda: _verify_moves(place), json=json) if moves and not broken else None
    broken = broken or (moved is not None and bool(moved.breaches))
    if json:
        show({"ok": not broken, "partitions": [_report_document(report) for report in reports], "moves": moved})
    else:
        _show_reports(reports)
        if moved is not None:
            _show_moves(moved)
    if broken:
        sys.exit(REFUSED)


async def _verify_moves(where: Where) -> "MovesReport":
    from infra.log.codec import CloudEventMapper
    from workers.audit.verify_moves import verify_moves

    async with _opened(where) as logs:
        return await verify_moves(logs, CloudEventMapper())


def _show_moves(report: "MovesReport") -> None:
    click.echo(f"moves: {report.events:,} events, {len(report.breaches)} breaches, {len(report.owed)} still owed")
    for owed in report.owed[:20]:
        click.echo(f"  still owed: {owed}")
    for breach in report.breaches[:20]:
        click.echo(f"Breach: {breach}", err=True)


async def _verify(where: Where, *, fold: bool, quiet: bool) -> "list[Report]":
    from infra.log.codec import CloudEventMapper
    from workers.audit.verify_parallel import verify_in_parallel

    with _status(quiet) as tell:

        def progress(events: int) -> None:
            tell(f"{events:,} events")

        return await verify_in_parallel(partial(_opened, where, alone=True), CloudEventMapper(), progress, fold=fold)


def _report_document(report: "Report") -> dict[str, Any]:
    return {
        "partition": report.partition,
        "events": report.events,
        "terms": report.terms,
        "voids": report.voids,
        "streams": report.streams,
        "position": report.head.position,
        "head": report.head.head.hex(),
        "breach": report.breach,
    }


def _show_reports(reports: "Sequence[Report]") -> None:
    table(
        ("PARTITION", "EVENTS", "TERMS", "VOIDS", "STREAMS", "UP TO", "HEAD"),
        [
            (
                *(f"{number:,}" for number in (report.partition, report.events, report.terms, report.voids)),
                f"{report.streams:,}",
                f"{report.head.position:,}",
                report.head.head.hex()[:16],
            )
            for report in reports
        ],
    )
    for report in reports:
        if report.breach is not None:
            where = f"partition {report.partition}, position {report.breach.position}"
            click.echo(f"Corrupt: {where}: {report.breach.reason}", err=True)


@click.command()
@where
@click.option("--to", metavar="POSITION|TIME", help="Up to this position (0:120,1:77 for several partitions) or time.")
@click.option("--into", metavar="DSN", help="Also write the rows into this database.")
@click.option("--schema", default="muster", show_default=True, help="With --into: the schema to write.")
@click.option("--overwrite", is_flag=True, help="With --into: whatever the schema holds now.")
@click.option("--projection", "names", multiple=True, metavar="NAME", help="Only these; their rows are shown.")
@json_option
def replay(
    data: Path,
    kafka: str | None,
    partitions: int | None,
    prefix: str,
    to: str | None,
    into: str | None,
    schema: str,
    overwrite: bool,
    names: tuple[str, ...],
    json: bool,
) -> None:
    """Rebuild the read models from the log, as they were at a chosen point: in memory, or in a database."""
    place = Where(data, kafka, partitions, prefix)
    projections = _projections(names)
    point = _point(to)
    result = run(lambda: _replay(place, projections, point, into, schema, overwrite=overwrite, quiet=json), json=json)
    if json:
        show(_replayed_document(result, projections))
    else:
        _show_replayed(result, projections, rows=bool(names))


async def _replay(
    where: Where,
    projections: Sequence[Any],
    point: dict[str, Any],
    into: str | None,
    schema: str,
    *,
    overwrite: bool,
    quiet: bool,
) -> "Replayed":
    from infra.log.codec import CloudEventMapper
    from infra.postgres.store import ReadStore
    from workers.audit.replay import replay

    with _status(quiet) as tell:

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

        async with _opened(where) as logs:
            if into is None:
                return await work(logs, None)
            async with ReadStore(into, schema=schema) as store:
                return await work(logs, store)


def _projections(names: Sequence[str]) -> list[Any]:
    from projections.catalogue import PROJECTIONS

    known = {projection.name: projection for projection in PROJECTIONS}
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(f"there is no {unknown[0]!r}; known: {', '.join(known)}", param_hint="--projection")
    return [known[name] for name in names] or list(PROJECTIONS)


def _point(to: str | None) -> dict[str, Any]:
    """`120` is a position, `0:120,1:77` one per partition, everything else must be a time."""
    from muster.wire.token import parse_token

    if to is None:
        return {}
    if to.isdigit():
        return {"to_position": int(to)}
    if all(part.replace(":", "").isdigit() for part in to.split(",")) and ":" in to and "-" not in to:
        return {"to_position": parse_token(to)}
    try:
        at = datetime.fromisoformat(to)
    except ValueError:
        raise click.BadParameter(
            f"{to!r} is no position and no time like 2026-01-31T12:00:00Z", param_hint="--to"
        ) from None
    if at.tzinfo is None:
        raise click.BadParameter(f"{to!r} needs an offset, like Z or +02:00", param_hint="--to")
    return {"to_time": at}


def _row(projection: Any, key: tuple[str, ...], row: Any) -> dict[str, Any]:
    names = (*projection.key_names, *projection.columns_type._fields)
    return dict(zip(names, (*key, *projection.columns(row)), strict=True))


def _replayed_document(result: "Replayed", projections: Sequence[Any]) -> dict[str, Any]:
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


def _show_replayed(result: "Replayed", projections: Sequence[Any], *, rows: bool) -> None:
    positions = ", ".join(f"{number}:{cursor.position}" for number, cursor in sorted(result.cursors.items()))
    last = f", the last at {instant(result.last_at)}" if result.last_at else ""
    click.echo(f"{result.events:,} events up to {positions}{last}; {result.voids:,} void records passed")
    if not rows:
        counts = [(name, f"{len(found):,}", f"{len(result.parked[name]):,}") for name, found in result.rows.items()]
        table(("PROJECTION", "ROWS", "PARKED"), counts)
        return
    for projection in projections:
        found = [_row(projection, key, row) for key, row in sorted(result.rows[projection.name].items())]
        columns = list(found[0]) if found else list(projection.key_names)
        click.echo(f"\n{projection.name}")
        table([name.upper() for name in columns], [[_cell(value) for value in row.values()] for row in found])


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{name}={inner}" for name, inner in value.items())
    return "" if value is None else str(value)


@contextmanager
def _status(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A line on standard error that tells the progress, where somebody looks at it."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("reading the log") as status:
        yield status.update


@asynccontextmanager
async def _opened(where: Where, *, alone: bool = False) -> "AsyncIterator[Sequence[PartitionLog]]":
    """The log's partitions, for reading only. `alone`: who uses both cores already needs no process to read ahead."""
    from infra.kafka.engine import open_kafka
    from infra.sqlite.engine import open_embedded

    if where.kafka is not None:
        async with open_kafka(where.kafka, partitions=where.partitions, prefix=where.prefix, create=False) as engine:
            yield list(engine.logs.values())
    else:
        async with open_embedded(where.data, partitions=where.partitions, read_only=True, alone=alone) as engine:
            yield list(engine.logs.values())
