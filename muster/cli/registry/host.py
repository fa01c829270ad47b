"""Commands about hosts: host run, which is the server's."""

import click

from muster.cli.of_server import WithServerCommands


# The client's, so that `muster host` says what to install where there is no server.
@click.group(cls=WithServerCommands, of_server={"run": "host-run"})
def host() -> None:
    """Keep all instances of a host registered and checked, by one process."""
