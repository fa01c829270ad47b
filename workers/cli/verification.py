"""`muster verify`: the log verified by several processes, and what was found as JSON or as tables."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from muster.cli.outcome import say
from muster.cli.table import table
from workers.cli.place import LogPlace, opened, progress_line

if TYPE_CHECKING:
    from workers.audit.segment import VerifyReport
    from workers.audit.verify_moves import MovesReport


async def verified(place: LogPlace, *, fold: bool, quiet: bool) -> "list[VerifyReport]":
    """A report for each partition, with a line of progress meanwhile unless `quiet`."""
    from infra.log.codec import CloudEventMapper
    from workers.audit.verify_parallel import verify_in_parallel

    with progress_line(quiet) as tell:

        def progress(events: int) -> None:
            tell(f"{events:,} events")

        # Alone: the work is spread over processes already, and a child that reads ahead for each would compete with them.
        return await verify_in_parallel(partial(opened, place, alone=True), CloudEventMapper(), progress, fold=fold)


async def verified_moves(place: LogPlace) -> "MovesReport":
    """What the moves of shards in the whole log amount to."""
    from infra.log.codec import CloudEventMapper
    from workers.audit.verify_moves import verify_moves

    # One process reads all partitions: a move shows in the log of its keyspace, of the cluster and of the saga.
    async with opened(place) as logs:
        return await verify_moves(logs, CloudEventMapper())


def report_document(report: "VerifyReport") -> dict[str, Any]:
    """A report for programs."""
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


def show_reports(reports: "Sequence[VerifyReport]") -> None:
    """A line for each partition, and its breach if it has one."""
    table(
        ("PARTITION", "EVENTS", "TERMS", "VOIDS", "STREAMS", "UP TO", "HEAD"),
        [
            (
                *(f"{number:,}" for number in (report.partition, report.events, report.terms, report.voids)),
                f"{report.streams:,}",
                f"{report.head.position:,}",
                # Enough to compare two logs by eye; `--json` has all of it.
                report.head.head.hex()[:16],
            )
            for report in reports
        ],
    )
    for report in reports:
        if report.breach is not None:
            where = f"partition {report.partition}, position {report.breach.position}"
            say(f"Corrupt: {where}: {report.breach.reason}", err=True)


def verdict(reports: "Sequence[VerifyReport]", moves: "MovesReport | None", *, kafka: bool) -> str:
    """What was found, in a sentence for people: that all is sound, or what is wrong, where, and what to do."""
    events = sum(report.events for report in reports)
    broken = [report for report in reports if report.breach is not None]
    if broken:
        where = ", ".join(
            f"partition {report.partition} is damaged at position {report.breach.position} ({report.breach.reason}), and "
            + (f"whole up to {report.head.position}" if report.head.position >= 0 else "nothing stands before that")
            for report in broken
            if report.breach is not None
        )
        others = f"; the {len(reports) - len(broken)} others are sound" if len(reports) > len(broken) else ""
        remedy = (
            "compare the topic's replicas and let an intact one lead"
            if kafka
            else "stop the controller, put a backup in the place of the data folder, and verify that"
        )
        return f"Not sound: {where}{others}. What to do: {remedy} (docs/operations.md, When a partition is corrupt)."
    voids = sum(report.voids for report in reports)
    passed = f", {voids:,} records of deposed writers passed over" if voids else ""
    sound = (
        f"{events:,} events in {len(reports)} partition{'s' if len(reports) > 1 else ''}{passed}; nothing is damaged, missing or "
        "out of place"
    )
    if moves is None:
        return f"Sound: {sound}."
    if moves.breaches:
        return (
            f"Not sound: the log is whole ({sound}), but {len(moves.breaches)} invariants of moves are broken, the first: "
            f"{moves.breaches[0]}. What to do: keep the log as it is and report it; it is a fault of muster's, or of whoever "
            "wrote to the log beside it."
        )
    return f"Sound: {sound}; all moves of shards hold their invariants."


def show_moves(report: "MovesReport") -> None:
    """A summary, and the first of what is owed and of the breaches."""
    say(f"moves: {report.events:,} events, {len(report.breaches)} breaches, {len(report.owed)} still owed")
    for owed in report.owed[:20]:
        say(f"  still owed: {owed}")
    for breach in report.breaches[:20]:
        say(f"Breach: {breach}", err=True)
