"""Commands that run the server's own code: up and doctor. They import it only when they are called."""

import asyncio
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from muster.cli.amount import Amount
from muster.cli.outcome import REFUSED, json_option, run, say, show
from muster.wire.error import MusterError
from workers.cli.option import Checked, writable

if TYPE_CHECKING:
    from infra.settings import Settings
    from workers.doctor.finding import Finding

data_option: Final = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("data"),
    envvar="MUSTER_DATA",
    show_default=True,
    help="The data folder.",
)
prefix_option: Final = click.option(
    "--prefix",
    type=Checked("topic_prefix"),
    default="muster",
    show_default=True,
    help="Of the topics on Kafka.",
)
postgres_type: Final = Checked("postgres_address")
kafka_type: Final = Checked("kafka_address")


@click.command()
@data_option
@click.option(
    "--http",
    metavar="HOST:PORT",
    type=Checked("listen_address"),
    default="127.0.0.1:8740",
    envvar="MUSTER_HTTP",
    show_default=True,
    help="Where to listen.",
)
@click.option(
    "--kafka", metavar="local|HOST:PORT", type=kafka_type, envvar="MUSTER_KAFKA", help="Log and commands on Kafka."
)
@click.option(
    "--postgres",
    metavar="local|DSN",
    type=postgres_type,
    envvar="MUSTER_POSTGRES",
    help="Also fill tables in PostgreSQL.",
)
@click.option("--partitions", type=click.IntRange(min=1), help="Of a new log.  [default: 1, on Kafka 8]")
@click.option(
    "--cluster",
    type=Checked("cluster_name"),
    default="default",
    show_default=True,
    help="The cluster's name in the events.",
)
@prefix_option
@click.option(
    "--cluster-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="MUSTER_CLUSTER_KEY",
    help="The key that all controllers on one Kafka share.  [default: cluster.key in the data folder, made if missing]",
)
@click.option(
    "--advertise",
    metavar="URL",
    type=Checked("web_address"),
    help="Where other controllers reach this one.  [default: where it listens]",
)
@click.option(
    "--check-interval-min",
    type=Amount(0.1),
    default=0.1,
    envvar="MUSTER_CHECK_INTERVAL_MIN",
    show_default=True,
    help="In seconds: how often a check that is registered may ask at most.",
)
@click.option(
    "--check-targets",
    metavar="own|CIDR,…|any",
    default="any",
    envvar="MUSTER_CHECK_TARGETS",
    show_default=True,
    help="Whom checks may ask: the instance's own address, networks, anyone.",
)
@click.option(
    "--mass-flip-seconds",
    type=Amount(0, 86_400),
    default=30.0,
    envvar="MUSTER_MASS_FLIP_SECONDS",
    show_default=True,
    help="When checks of most of a service fail together, serve it so long all the same; 0: do not.",
)
@click.option("--insecure", is_flag=True, help="Listen beyond loopback, though there is no authentication yet.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    envvar="MUSTER_LIMITS",
    help="Another value for a limit of clients, like connections_max=500; docs/limits.md has all. Repeatable.",
)
@click.option("--log-json", is_flag=True, help="Logs as JSON, one line each.")
def up(limits: tuple[str, ...], **options: Any) -> None:
    """Start a controller: by default one process that keeps its log in a folder."""
    from infra.limits import limits_from
    from infra.local.failure import LocalServerFailed, LocalServerUnavailable
    from infra.settings import Settings

    if options["postgres"] is not None:
        _check_schema(options["prefix"])
    # After all options were read: a command line that is wrong in another place leaves no empty folder.
    writable("--data", options["data"])
    try:
        _serve(Settings(limits=limits_from(limits), **options))
    except (LocalServerUnavailable, LocalServerFailed) as error:
        say(f"NotReady: {error}", err=True)
        sys.exit(REFUSED)
    except MusterError as error:
        say(f"{error.name}: {error.detail}", err=True)
        sys.exit(REFUSED)


def _check_schema(prefix: str) -> None:
    # The tables' schema has the prefix's name, which Kafka lets be longer than PostgreSQL does.
    from infra.option import schema_of

    try:
        schema_of(prefix)
    except ValueError as error:
        raise click.BadParameter(f"with --postgres it names a schema: {error}", param_hint="--prefix") from None


def _serve(settings: "Settings") -> None:
    # The hundreds of modules that follow stay for good: the controller turns it on again once it has recovered.
    gc.disable()
    import uvloop

    from infra.diagnostics import configure
    from infra.limits import raise_files
    from workers.controller.process import serve

    configure(as_json=settings.log_json)
    raise_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))


@click.command()
@click.option("--kafka", metavar="HOST:PORT", type=kafka_type, help="The broker to examine.")
@click.option("--postgres", metavar="DSN", type=postgres_type, help="The database to examine.")
@click.option(
    "--cluster-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="MUSTER_CLUSTER_KEY",
    help="The controllers' key to examine; with --kafka, whether those that live have it.",
)
@click.option("--partitions", type=click.IntRange(min=1), help="What the topics should have.  [default: 8]")
@prefix_option
@json_option
def doctor(
    kafka: str | None, postgres: str | None, cluster_key: Path | None, partitions: int | None, prefix: str, json: bool
) -> None:
    """Check a broker, a database and a key for what muster needs, and say what to change. Exit code 1: it cannot run."""
    from workers.doctor.examine import examine

    if kafka is None and postgres is None and cluster_key is None:
        raise click.UsageError(
            "name what to examine: --kafka HOST:PORT, --postgres DSN, --cluster-key FILE, or several"
        )
    findings = run(
        lambda: examine(kafka, postgres, partitions=partitions, prefix=prefix, cluster_key=cluster_key), json=json
    )
    if json:
        show({"ok": not any(finding.verdict == "fault" for finding in findings), "findings": findings})
    else:
        _show_findings(findings)
    # A warning alone is no reason to exit with 1: muster runs with it.
    if any(finding.verdict == "fault" for finding in findings):
        sys.exit(REFUSED)


def _show_findings(findings: "list[Finding]") -> None:
    from muster.cli.table import table

    table(
        ("", "WHAT", "FOUND", "TO DO"),
        [(finding.verdict, finding.subject, finding.found, finding.remedy) for finding in findings],
    )
