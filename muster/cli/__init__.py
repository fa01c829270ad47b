"""The command line: `muster COMMAND`. The server is imported only by the commands that run it."""

import click

from muster import __version__
from muster.cli import data, keyspace, log, migration, node, read, server, write


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="muster")
def main() -> None:
    """Who is here, who is healthy, who owns which shard, and how it came to be so.

    Exit codes: 0 done; 1 refused (the problem's name is told); 2 wrong usage; 3 nobody could answer: try again.
    """


for command in (
    write.register,
    write.deregister,
    write.drain,
    write.undrain,
    write.maintenance,
    write.heartbeat,
    read.services,
    read.instances,
    read.discover,
    read.watch,
    read.history,
    read.events,
    log.replay,
    log.verify,
    keyspace.keyspace,
    keyspace.keyspaces,
    keyspace.shards,
    keyspace.route,
    keyspace.pin,
    keyspace.unpin,
    data.put,
    data.get,
    data.delete,
    data.scan,
    node.node,
    node.nodes,
    node.limits,
    migration.move,
    migration.migrations,
    migration.migration,
    read.status,
    server.doctor,
    server.up,
):
    main.add_command(command)
