"""How the server's options are read: a value that can never be used ends the command at once, with the option and the reason."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final

import click

LOG_FILE: Final = "log.sqlite"
"""As in `infra.sqlite.folder`, which `--help` does not need."""


class Checked(click.ParamType):
    """A text that the function of this name in `infra.option` accepts; it raises ValueError with the reason."""

    name = "text"

    def __init__(self, check: str) -> None:
        self._check = check

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click."""
        try:
            # Loaded here: help must not wait for the server's code.
            check: Callable[[str], str] = getattr(import_module("infra.option"), self._check)
            return check(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def writable(option: str, folder: Path) -> Path:
    """The folder, made if missing. Raises BadParameter when it cannot be made, or nothing can be written in it."""
    # Before anything is started over it: a port, a broker or a writer must not be begun in vain.
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.BadParameter(f"{folder} cannot be made: {error.strerror}", param_hint=option) from None
    return _allowed(option, folder)


def readable(option: str, folder: Path) -> Path:
    """The folder, in which a log can be read. Raises BadParameter when it is not there, or closed to us."""
    # Also a folder that we may not pass is told here, and not by SQLite in its own words.
    try:
        there = (folder / LOG_FILE).exists()
    except OSError as error:
        raise click.BadParameter(f"{folder} cannot be read: {error.strerror}", param_hint=option) from None
    if not there:
        raise click.BadParameter(f"{folder} holds no log of muster", param_hint=option)
    # SQLite keeps who reads in a file beside the log, so that who only reads has to write.
    return _allowed(option, folder, "; a copy of the folder can be read")


def _allowed(option: str, folder: Path, more: str = "") -> Path:
    # The files, too: a folder that was copied by somebody else may be open, and its log be theirs.
    try:
        files = [folder, *folder.glob("*.sqlite")]
    except OSError:
        files = [folder]
    for path in files:
        if not os.access(path, os.R_OK | os.W_OK | (os.X_OK if path == folder else 0)):
            raise click.BadParameter(f"{path} may not be read and written{more}", param_hint=option)
    return folder
