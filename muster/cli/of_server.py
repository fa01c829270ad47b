"""Commands that only the server's distribution brings, `musterd`: found by their entry points, so that the client is
complete without a server.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from muster.cli.outcome import REFUSED, say

ENTRY_POINTS: Final = "muster.commands"
"""The group of entry points in which `musterd` names its commands."""


class WithServerCommands(click.Group):
    """A group some of whose commands are the server's: `of_server` gives each one's entry point, by the command's name."""

    def __init__(self, *args: Any, of_server: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._of_server = of_server

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click."""
        return sorted([*super().list_commands(ctx), *self._of_server])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click."""
        entry_point = self._of_server.get(cmd_name)
        return super().get_command(ctx, cmd_name) if entry_point is None else _server_command(cmd_name, entry_point)


def _server_command(name: str, entry_point: str) -> click.Command:
    from importlib.metadata import entry_points  # here: its parsers cost more than all of click

    for found in entry_points(group=ENTRY_POINTS, name=entry_point):
        command: click.Command = found.load()
        return command
    return _missing(name)


def _missing(name: str) -> click.Command:
    """What stands in for a command whose distribution is not installed: it says what to install."""

    @click.command(name, help="Part of the server: install musterd.", add_help_option=False)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def missing(arguments: tuple[str, ...]) -> None:
        say(f"`{name}` is part of the server, which is not installed here: install musterd", err=True)
        sys.exit(REFUSED)

    # The real command's options are let through, so that the answer is the same however it is called.
    missing.ignore_unknown_options = True
    return missing
