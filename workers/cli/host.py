"""The command that runs a host: host run. It imports the server's code only when it is called."""

import sys
from pathlib import Path
from socket import gethostname

import click

from muster.cli.outcome import REFUSED, say
from muster.cli.remote import controllers_options
from muster.wire.error import MusterError
from workers.cli.option import Checked
from workers.cli.server import kafka_type, prefix_option


@click.command()
@click.option(
    "--config",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    envvar="MUSTER_HOST_CONFIG",
    help="The folder with the files of its instances, *.toml.",
)
@click.option(
    "--name",
    type=Checked("node_name"),
    envvar="MUSTER_HOST",
    help="What the host is called; its instances are held under it.  [default: the host's name]",
)
@controllers_options
@click.option(
    "--kafka",
    metavar="HOST:PORT",
    type=kafka_type,
    envvar="MUSTER_KAFKA",
    help="Heartbeats go to the topic there, and `muster telemetry` keeps the leases.",
)
@prefix_option
@click.option("--log-json", is_flag=True, help="Logs as JSON, one line each.")
def run(
    config: Path,
    name: str | None,
    urls: tuple[str, ...],
    cluster: str | None,
    kafka: str | None,
    prefix: str,
    log_json: bool,
) -> None:
    """Keep all instances of this host registered and checked, in the foreground, until SIGTERM.

    SIGHUP reads the files again.
    """
    import asyncio

    from infra.diagnostics import configure
    from workers.host.process import HostSettings, serve

    configure(as_json=log_json)
    agent = name or gethostname()[:128]
    settings = HostSettings(config=config, agent=agent, urls=urls, cluster=cluster, kafka=kafka, prefix=prefix)
    try:
        asyncio.run(serve(settings))
    except MusterError as error:
        say(f"{error.name}: {error.detail}", err=True)
        sys.exit(REFUSED)
