"""The command that runs a worker of the telemetry tier: telemetry. It imports the server's code only when it is called."""

import sys
from importlib.util import find_spec

import click

from muster.cli.outcome import REFUSED, say
from muster.wire.error import MusterError
from workers.cli.option import Checked
from workers.cli.server import kafka_type, prefix_option


@click.command()
@click.option(
    "--kafka", metavar="HOST:PORT", type=kafka_type, required=True, envvar="MUSTER_KAFKA", help="The brokers."
)
@prefix_option
@click.option("--partitions", type=click.IntRange(min=1), help="Of the log.  [default: 8]")
@click.option(
    "--name",
    type=Checked("node_name"),
    help="What it is called, each start of it.  [default: the host's name, and more]",
)
@click.option("--log-json", is_flag=True, help="Logs as JSON, one line each.")
def telemetry(kafka: str, prefix: str, partitions: int | None, name: str | None, log_json: bool) -> None:
    """Watch over instances whose heartbeats come by Kafka's topic, in the foreground, until SIGTERM.

    Start as many as are needed, at most one per partition: they share the partitions, and take over from each other.
    """
    # Asked before anything of ours that needs it is imported.
    if find_spec("faust") is None:
        say("`telemetry` needs faust-streaming: pip install 'musterd[telemetry]'", err=True)
        sys.exit(REFUSED)
    import asyncio

    from infra.diagnostics import configure
    from workers.telemetry.process import WorkerSettings, new_name, serve

    configure(as_json=log_json)
    settings = WorkerSettings(kafka=kafka, prefix=prefix, partitions=partitions, worker=name or new_name())
    try:
        asyncio.run(serve(settings))
    except MusterError as error:
        say(f"{error.name}: {error.detail}", err=True)
        sys.exit(REFUSED)
