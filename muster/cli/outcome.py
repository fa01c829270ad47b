"""How every command ends: what it tells programs, and its exit code.

0  done
1  refused: the problem's name is on standard error (with --json it is the document on standard output)
2  the command line is wrong
3  unreachable, not ready, or the outcome is unknown: try again
4  something that nobody has thought of: one line says what, and with MUSTER_DEBUG=1 a traceback says where
"""

import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

import click

from muster.wire import printable, printable_json
from muster.wire.error import MusterError, Transient

REFUSED: Final = 1
UNREACHABLE: Final = 3
UNEXPECTED: Final = 4

DEBUG: Final = "MUSTER_DEBUG"
"""The environment variable that lets tracebacks through."""

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]], *, json: bool) -> T:
    """Run the work to its end; a problem ends the process with its exit code."""
    import asyncio  # here, as below: a command that asks nobody loads neither

    # `asyncio.run` wants a coroutine, and the work may be anything that can be awaited.
    async def awaited() -> T:
        return await work()

    try:
        return asyncio.run(awaited())
    except MusterError as error:
        fail(error, json=json)
    except KeyboardInterrupt:
        # As shells say of a process that a signal has ended.
        sys.exit(128 + signal.SIGINT)


def fail(error: MusterError, *, json: bool) -> NoReturn:
    """Tell the problem and exit: 3 for what may be tried again, else 1."""
    if json:
        show({"error": {"name": error.name, "detail": error.detail, **error.context}})
    else:
        say(f"{error.name}: {error.detail}", err=True)
    sys.exit(UNREACHABLE if isinstance(error, Transient) else REFUSED)


def misused(error: click.ClickException) -> NoReturn:
    """Tell what is wrong with the command line, as click does, but for what it quotes of that: it may be others' text."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        for line in error.ctx.get_usage().splitlines():
            say(line, err=True)
        say(f"Try '{error.ctx.command_path} --help' for help.", err=True)
        say("", err=True)
    first, *rest = error.format_message().split("\n")
    say(f"Error: {first}", err=True)
    for line in rest:
        say(f"  {line.strip()}", err=True)
    sys.exit(error.exit_code)


def unexpected(error: BaseException, *, json: bool) -> NoReturn:
    """Tell what nobody has thought of in one line, and exit with 4; an error of ours as `fail` does."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    # Tasks that ran together fail together: the first error is what happened, the others follow from it.
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MusterError):
        fail(error, json=json)
    detail = (str(error).strip() or "no more is known").splitlines()[0]
    more = "" if os.environ.get(DEBUG) else f"; {DEBUG}=1 shows where"
    # What the system refuses says by itself what it is: a folder that is not there, a disk that is full.
    what = f"{type(error).__name__}: {detail}"
    if json:
        show({"error": {"name": "Unexpected", "detail": what}})
    else:
        say(f"Unexpected: {what}{more}", err=True)
    sys.exit(UNEXPECTED)


def json_option(command: F) -> F:
    """The option --json."""
    return click.option("--json", is_flag=True, help="One JSON document on standard output.")(command)


def document(value: object) -> str:
    """The value as one line of JSON; instants as RFC 3339."""
    from pydantic_core import to_json

    return to_json(value).decode()


def show(value: object) -> None:
    """Write the value as JSON, one line."""
    click.echo(printable_json(document(value)))


def say(line: str, *, err: bool = False) -> None:
    """Write one line for people, on standard output or error: whatever it quotes of others stays text, and on its line."""
    click.echo(printable(line), err=err)
