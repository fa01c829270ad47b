"""The command that runs a data node: node run. It imports the server's code only when it is called."""

import sys
from pathlib import Path
from typing import Any

import click

from muster.cli.amount import Amount
from muster.cli.outcome import REFUSED, say
from muster.cli.remote import controllers_options
from muster.wire.error import MusterError
from workers.cli.option import Checked, writable


@click.command()
@click.option(
    "--id",
    "node",
    required=True,
    type=Checked("node_name"),
    envvar="MUSTER_NODE",
    help="What it is called, for ever.",
)
@click.option("--data", required=True, type=click.Path(file_okay=False, path_type=Path), help="Its folder.")
@click.option(
    "--listen",
    type=Checked("listen_address"),
    default="127.0.0.1:0",
    show_default=True,
    help="HOST:PORT; port 0: a free one.",
)
@click.option(
    "--advertise",
    metavar="HOST:PORT",
    type=Checked("reached_address"),
    help="Where others reach it.  [default: where it listens]",
)
@click.option("--zone", default="", help="Where it stands.")
@click.option(
    "--capacity",
    type=Amount(0, above=True),
    default=1.0,
    show_default=True,
    help="How much it takes, compared with others.",
)
@click.option(
    "--lease-seconds",
    type=Amount(0, above=True),
    default=5.0,
    show_default=True,
    help="For so long it may serve unheard.",
)
@click.option("--serve-bytes-per-second", type=Amount(0, above=True), help="At most, to all who copy shards from it.")
@controllers_options
@click.option("--insecure", is_flag=True, help="Listen beyond loopback, though there is no authentication yet.")
@click.option("--log-json", is_flag=True, help="Logs as JSON, one line each.")
def run(log_json: bool, **options: Any) -> None:
    """Be a data node, in the foreground, until SIGTERM: hold shards, and take part in their moves."""
    import uvloop

    from infra.diagnostics import configure
    from workers.node.process import NodeSettings, serve

    configure(as_json=log_json)
    writable("--data", options["data"])
    try:
        uvloop.run(serve(NodeSettings(**options)))
    except MusterError as error:
        say(f"{error.name}: {error.detail}", err=True)
        sys.exit(REFUSED)
