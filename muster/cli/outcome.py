"""How every command ends: what it tells programs, and its exit code.

0  done
1  refused: the problem's name is on standard error (with --json it is the document on standard output)
2  the command line is wrong
3  unreachable, not ready, or the outcome is unknown: try again
"""

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

import click

from muster.wire import printable, printable_json
from muster.wire.error import MusterError, Transient

REFUSED: Final = 1
UNREACHABLE: Final = 3

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
