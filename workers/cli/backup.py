"""`muster backup`: a copy of an embedded controller's data folder, made while it runs, and verified."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from muster.cli.outcome import REFUSED, json_option, run, say, show
from muster.wire.error import Corrupt
from workers.cli.option import readable
from workers.cli.place import LogPlace
from workers.cli.server import data_option
from workers.cli.verification import report_document, verdict, verified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.audit.segment import VerifyReport

ON_KAFKA: Final = (
    "On Kafka there is nothing to copy: the log is the topics, and each record is on as many brokers as they have replicas. Run "
    "three brokers with min.insync.replicas=2, and against the loss of all of them mirror <prefix>.events to another cluster, "
    "with a tool that keeps offsets; verify the mirror with `muster verify --kafka`. PostgreSQL is filled from the log. See "
    "docs/operations.md, Backup."
)


@click.command()
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@data_option
@click.option("--kafka", metavar="HOST:PORT", help="The log is on Kafka: say what to do instead.")
@json_option
def backup(target: Path, data: Path, kafka: str | None, json: bool) -> None:
    """Copy the data folder of an embedded controller to DIR while it runs, and verify the copy. DIR is empty, or not there."""
    if kafka is not None:
        if json:
            show({"error": {"name": "NotEmbedded", "detail": ON_KAFKA}})
        else:
            say(ON_KAFKA, err=True)
        sys.exit(REFUSED)
    readable("--data", data)
    reports = run(lambda: _backed_up(data, target, quiet=json), json=json)
    told = verdict(reports, None, kafka=False)
    if json:
        show({"folder": target, "verdict": told, "partitions": [report_document(report) for report in reports]})
    else:
        positions = ", ".join(f"{report.partition}:{report.head.position}" for report in reports)
        say(f"Copied {data} to {target}, up to {positions}. {told}")
        say(
            f"To restore: stop the controller, copy {target} to its data folder, start it. What came later is not in it."
        )


async def _backed_up(data: Path, target: Path, *, quiet: bool) -> "Sequence[VerifyReport]":
    from infra.sqlite.backup import copied, discard, named

    # In a thread: copying blocks, for as long as the disk takes.
    partial = await asyncio.to_thread(copied, data, target)
    try:
        # The copy and not the original: what counts is what can be restored.
        reports = await verified(LogPlace(partial, None, None, ""), fold=False, quiet=quiet)
        # A copy of damage would push out the backup that could still mend it.
        if any(report.breach is not None for report in reports):
            raise Corrupt(f"the copy is none, because the log is damaged. {verdict(reports, None, kafka=False)}")
    except BaseException:
        # Interrupted, too: what has no name is nothing that anybody should find.
        discard(partial)
        raise
    await asyncio.to_thread(named, partial, target)
    return reports
