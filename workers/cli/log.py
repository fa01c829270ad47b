"""Commands that read the log itself: verify and replay. A controller may use the embedded log meanwhile."""

import sys

import click

from muster.cli.outcome import REFUSED, json_option, run, say, show
from workers.cli.option import Checked
from workers.cli.place import LogPlace, place_options
from workers.cli.replaying import point_of, projections_of, replayed, replayed_document, show_replayed
from workers.cli.server import postgres_type
from workers.cli.verification import (
    report_document,
    show_moves,
    show_reports,
    show_snapshots,
    verdict,
    verified,
    verified_moves,
    verified_snapshots,
)


@click.command()
@place_options
@click.option("--fold", is_flag=True, help="Also let the domain fold every event; holds the whole state in memory.")
@click.option("--moves", is_flag=True, help="Also hold every move of a shard against the invariants of moves.")
@json_option
def verify(place: LogPlace, fold: bool, moves: bool, json: bool) -> None:
    """Walk the whole log: chain, terms, stream versions, decoding; then compare each snapshot with a fold of it. Exit code 1:
    damaged, at the position that is shown, or a snapshot that is not true.
    """
    reports = run(lambda: verified(place, fold=fold, quiet=json), json=json)
    broken = any(report.breach is not None for report in reports)
    # The rest is judged in a sound log only: what follows the damage cannot be read, and would seem missing.
    snapshots = [] if broken else run(lambda: verified_snapshots(place, quiet=json), json=json)
    moved = run(lambda: verified_moves(place), json=json) if moves and not broken else None
    told = verdict(reports, moved, snapshots, kafka=place.kafka is not None)
    broken = broken or (moved is not None and bool(moved.breaches)) or any(one.differences for one in snapshots)
    if json:
        partitions = [report_document(report) for report in reports]
        show({"ok": not broken, "verdict": told, "partitions": partitions, "moves": moved, "snapshots": snapshots})
    else:
        show_reports(reports)
        show_snapshots(snapshots)
        if moved is not None:
            show_moves(moved)
        say("")
        say(told, err=broken)
    if broken:
        sys.exit(REFUSED)


@click.command()
@place_options
@click.option("--to", metavar="POSITION|TIME", help="Up to this position (0:120,1:77 for several partitions) or time.")
@click.option("--into", metavar="DSN", type=postgres_type, help="Also write the rows into this database.")
@click.option(
    "--schema",
    type=Checked("schema_name"),
    default="muster",
    show_default=True,
    help="With --into: the schema to write.",
)
@click.option("--overwrite", is_flag=True, help="With --into: whatever the schema holds now.")
@click.option("--projection", "names", multiple=True, metavar="NAME", help="Only these; their rows are shown.")
@json_option
def replay(
    place: LogPlace,
    to: str | None,
    into: str | None,
    schema: str,
    overwrite: bool,
    names: tuple[str, ...],
    json: bool,
) -> None:
    """Rebuild the read models from the log, as they were at a chosen point: in memory, or in a database."""
    # Both are checked before the log is opened: a misspelt option must not cost a long reading.
    projections = projections_of(names)
    point = point_of(to)
    result = run(lambda: replayed(place, projections, point, into, schema, overwrite=overwrite, quiet=json), json=json)
    if json:
        show(replayed_document(result, projections))
    else:
        show_replayed(result, projections, rows=bool(names))
