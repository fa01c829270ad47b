"""`muster verify`: the log verified by several processes, and what was found as JSON or as tables."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from muster.cli.outcome import say
from muster.cli.table import table
from workers.cli.place import LogPlace, opened, opened_engine, progress_line

if TYPE_CHECKING:
    from workers.audit.segment import VerifyReport
    from workers.audit.verify_moves import MovesReport
    from workers.audit.verify_snapshots import SnapshotReport


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


async def verified_snapshots(place: LogPlace, *, quiet: bool) -> "list[SnapshotReport]":
    """What the snapshots of a sound log hold, compared with it."""
    from infra.log.codec import CloudEventMapper
    from workers.audit.verify_snapshots import verify_snapshots

    with progress_line(quiet) as tell:
        tell("folding the log up to its snapshots")
        async with opened_engine(place) as engine:
            return await verify_snapshots(list(engine.logs.values()), engine.snapshots, CloudEventMapper())


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


def verdict(
    reports: "Sequence[VerifyReport]",
    moves: "MovesReport | None",
    snapshots: "Sequence[SnapshotReport]" = (),
    *,
    kafka: bool,
) -> str:
    """What was found, in a sentence for people: that all is sound, or what is wrong, where, and what to do."""
    events = sum(report.events for report in reports)
    broken = [report for report in reports if report.breach is not None]
    if broken:
        return _damaged(reports, broken, kafka=kafka)
    voids = sum(report.voids for report in reports)
    passed = f", {voids:,} records of deposed writers passed over" if voids else ""
    sound = (
        f"{events:,} events in {len(reports)} partition{'s' if len(reports) > 1 else ''}{passed}; nothing is damaged, missing or "
        "out of place"
    )
    # Before the moves: those who steer them may have seen what the snapshot says.
    if untrue := [report for report in snapshots if report.differences]:
        return _untrue(untrue, sound, kafka=kafka)
    compared = sum(report.compared for report in snapshots)
    sound += f"; {compared} snapshot{'s agree' if compared > 1 else ' agrees'} with it" if compared else ""
    if moves is None:
        return f"Sound: {sound}."
    if moves.breaches:
        return (
            f"Not sound: the log is whole ({sound}), but {len(moves.breaches)} invariants of moves are broken, the first: "
            f"{moves.breaches[0]}. What to do: keep the log as it is and report it; it is a fault of muster's, or of whoever "
            "wrote to the log beside it."
        )
    return f"Sound: {sound}; all moves of shards hold their invariants."


def _damaged(reports: "Sequence[VerifyReport]", broken: "Sequence[VerifyReport]", *, kafka: bool) -> str:
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


def _untrue(reports: "Sequence[SnapshotReport]", sound: str, *, kafka: bool) -> str:
    first, more = reports[0], len(reports) - 1
    others = f" (nor {'is' if more == 1 else 'are'} {more} more)" if more else ""
    which = f"the snapshot of partition {first.partition} at position {first.position}"
    # Deleting one loses nothing: the log is whole, and all that a snapshot should hold comes from it.
    where = "the topic of snapshots" if kafka else "snapshots.sqlite"
    return (
        f"Not sound: the log is whole ({sound}), but {which} is not what the log says{others}: {first.differences[0]}. What to "
        f"do: stop the controllers, delete {where}, and start them: they read the log instead. Then find out who wrote it "
        "(docs/operations.md, Snapshots that are not true)."
    )


def show_snapshots(reports: "Sequence[SnapshotReport]") -> None:
    """A line for each snapshot, and how it differs from the log."""
    for report in reports:
        which = f"snapshot of partition {report.partition} at position {report.position:,}"
        if not report.compared:
            say(f"{which}: made by another version of muster, left aside as at every start")
        elif not report.differences:
            say(f"{which}: as the log says")
        for difference in report.differences:
            say(f"Corrupt: {which}: {difference}", err=True)


def show_moves(report: "MovesReport") -> None:
    """A summary, and the first of what is owed and of the breaches."""
    say(f"moves: {report.events:,} events, {len(report.breaches)} breaches, {len(report.owed)} still owed")
    for owed in report.owed[:20]:
        say(f"  still owed: {owed}")
    for breach in report.breaches[:20]:
        say(f"Breach: {breach}", err=True)
