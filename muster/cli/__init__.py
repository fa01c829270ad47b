"""The command line: `muster COMMAND`. A command's module is imported when it is called, the server only by what runs it."""

import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Final

import click

from muster import __version__
from muster.cli.of_server import WithServerCommands
from muster.cli.outcome import misused, unexpected

_COMMANDS_OF: Final = {
    "muster.cli.registry.write": ("register", "deregister", "drain", "undrain", "maintenance", "heartbeat", "believe"),
    "muster.cli.registry.read": ("services", "instances", "discover", "watch", "history", "status"),
    "muster.cli.registry.events": ("events",),
    "muster.cli.registry.traffic": ("traffic",),
    "muster.cli.registry.host": ("host",),
    "muster.cli.shards.keyspace": ("keyspace", "keyspaces", "shards", "route", "pin", "unpin"),
    "muster.cli.shards.data": ("put", "get", "delete", "scan"),
    "muster.cli.shards.node": ("node", "nodes", "limits"),
    "muster.cli.shards.migration": ("move", "migrations", "migration"),
    "muster.cli.groups.group": ("group", "groups"),
    "muster.cli.sagas": ("saga", "sagas"),
}
_MODULE_OF: Final = {command: module for module, commands in _COMMANDS_OF.items() for command in commands}
_JSON: Final = "muster.json"
_OF_SERVER: Final = {name: name for name in ("backup", "doctor", "replay", "telemetry", "up", "verify")}


class _Commands(WithServerCommands):
    """The commands by name. A start of `muster up` without the clients' modules takes a tenth of a second less."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        ctx.meta[_JSON] = "--json" in args
        for stream in (sys.stdout, sys.stderr):
            # A terminal that cannot show a letter is no reason not to answer.
            if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """See click. Whatever happens, it ends with a line and an exit code."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            misused(error)
        except (click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click knows how to end with these.
        except Exception as error:  # noqa: BLE001 the rim: nobody is there any more who could do anything about it
            unexpected(error, json=ctx.meta[_JSON])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click."""
        return sorted([*_MODULE_OF, *super().list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click."""
        module = _MODULE_OF.get(cmd_name)
        return super().get_command(ctx, cmd_name) if module is None else getattr(import_module(module), cmd_name)


@click.group(
    cls=_Commands,
    of_server=_OF_SERVER,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="muster")
def main() -> None:
    """Who is here, who is healthy, who owns which shard, and how it came to be so.

    Exit codes: 0 done; 1 refused (with the problem's name); 2 wrong usage; 3 no controller could answer: try again;
    4 unexpected (MUSTER_DEBUG=1 shows where).
    """
