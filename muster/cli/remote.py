"""What all commands that talk to a controller share: where it is, who asks, and how to answer."""

import getpass
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from muster.cli.outcome import json_option, run, show
from muster.wire import DEFAULT_URL

if TYPE_CHECKING:
    from muster.client.client import Client
    from muster.wire.registry.answers import Written

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remote:
    """The controller to talk to, and whether to answer with JSON."""

    url: str
    actor: str
    timeout_seconds: float
    json: bool

    def call(self, work: "Callable[[Client], Awaitable[T]]") -> T:
        """Run the work with an open client; a problem ends the process with its exit code."""
        from muster.client.client import Client  # here, since `--help` needs no aiohttp

        async def opened() -> T:
            async with Client(self.url, actor=self.actor, timeout_seconds=self.timeout_seconds) as client:
                return await work(client)

        return run(opened, json=self.json)


def tell(remote: Remote, what: str, work: "Callable[[Client], Awaitable[Written]]") -> None:
    """Do a write, and say what became of it."""
    written = remote.call(work)
    if remote.json:
        show(written)
        return
    again = ", as before" if written.duplicate else ""
    click.echo(f"{written.status}{again}: {what} (partition {written.partition}, position {written.position})")


def remote(command: F) -> F:
    """The options --url, --actor, --timeout and --json; the command gets a `Remote` as `remote`."""

    @click.option("--url", envvar="MUSTER_URL", default=DEFAULT_URL, show_default=True, help="The controller.")
    @click.option("--actor", envvar="MUSTER_ACTOR", help="Who does it, for the record.  [default: user@host]")
    @click.option("--timeout", default=10.0, show_default=True, metavar="SECONDS", help="With all retries.")
    @json_option
    @wraps(command)
    def wrapped(*args: Any, url: str, actor: str | None, timeout: float, json: bool, **kwargs: Any) -> Any:
        return command(*args, remote=Remote(url, actor or default_actor(), timeout, json), **kwargs)

    return wrapped  # type: ignore[return-value]


def reason_option(command: F) -> F:
    """The option --reason."""
    return click.option("--reason", metavar="TEXT", help="Why, for the record.")(command)


def default_actor() -> str:
    """`user@host`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
