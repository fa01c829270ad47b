"""What all commands that talk to a controller share: where it is, who asks, and how to answer."""

import getpass
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from muster.cli.amount import Amount
from muster.cli.outcome import json_option, run, say, show
from muster.cli.text import age
from muster.wire import DEFAULT_URL
from muster.wire.error import MusterError

if TYPE_CHECKING:
    from muster.client.client import Client
    from muster.wire.registry.answers import Written

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remote:
    """The controllers to talk to, and whether to answer with JSON. `cluster`: which one is meant, if that was said."""

    urls: tuple[str, ...]
    actor: str
    timeout_seconds: float
    json: bool
    cluster: str | None = None

    def call(self, work: "Callable[[Client], Awaitable[T]]") -> T:
        """Run the work with an open client; a problem ends the process with its exit code."""
        from muster.client.client import Client  # here, since `--help` needs no aiohttp

        async def opened() -> T:
            about = {"actor": self.actor, "cluster": self.cluster}
            async with Client(self.urls, timeout_seconds=self.timeout_seconds, **about) as client:
                with told_if_stale() as stale:
                    try:
                        return await work(client)
                    finally:
                        # Also of a refusal: "there is no such service" may be an old view's word.
                        if stale:
                            await _say_why(client, stale[0])

        return run(opened, json=self.json)


@contextmanager
def told_if_stale() -> Iterator[list[float]]:
    """The ages of stale answers within the block, as the client's log tells of them."""
    ages: list[float] = []

    class Ages(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                ages.append(float(getattr(record, "age_seconds", "0")))

    handler, log = Ages(), logging.getLogger("muster.client")
    log.addHandler(handler)
    try:
        yield ages
    finally:
        log.removeHandler(handler)


async def _say_why(client: "Client", age_seconds: float) -> None:
    """On standard error, also with --json: what was answered may long have changed, and why."""
    try:
        conditions = (await client.status()).get("conditions", ())
    except MusterError as error:
        why = f"; why is not known: {error.detail}"
    else:
        of_partitions = [one for one in conditions if one["kind"] in ("corrupt", "failing", "stale")]
        why = "".join(
            f"; {one['subject']} is {one['kind']}: {one.get('reason', one.get('state'))}" for one in of_partitions
        )
    since = age(datetime.now(UTC) - timedelta(seconds=min(age_seconds, 1e9)))
    say(f"stale: this is {since} behind{why}", err=True)


def tell(remote: Remote, what: str, work: "Callable[[Client], Awaitable[Written]]") -> None:
    """Do a write, and say what became of it."""
    written = remote.call(work)
    if remote.json:
        show(written)
        return
    again = ", as before" if written.duplicate else ""
    say(f"{written.status}{again}: {what} (partition {written.partition}, position {written.position})")


def controllers_options(command: F) -> F:
    """The options --url and --cluster, which the command gets as `urls` (each address apart) and `cluster`."""
    url = click.option(
        "--url",
        "urls",
        envvar="MUSTER_URL",
        default=DEFAULT_URL,
        show_default=True,
        metavar="URL[,URL…]",
        callback=_urls,
        help="The controller, or several that share a log.",
    )
    cluster = click.option("--cluster", envvar="MUSTER_CLUSTER", help="Which cluster is meant; others refuse.")
    return url(cluster(command))


def _urls(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, ...]:
    from muster.wire.controllers import urls_of  # here, since `--help` needs no pydantic

    try:
        return urls_of(text)
    except MusterError as error:
        raise click.BadParameter(error.detail.removeprefix("url: ")) from None


def remote(command: F, *, acts: bool = True) -> F:
    """The options --url, --cluster, --actor, --timeout and --json; the command gets a `Remote` as `remote`.

    `acts`: False for a command that only looks, and has an --actor of its own that says whose deeds to show.
    """

    @controllers_options
    @click.option(
        "--timeout",
        type=Amount(0, above=True),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="With all retries.",
    )
    @json_option
    @wraps(command)
    def wrapped(
        *args: Any, urls: tuple[str, ...], cluster: str | None, timeout: float, json: bool, **kwargs: Any
    ) -> Any:
        actor = kwargs.pop("actor") if acts else None
        return command(*args, remote=Remote(urls, actor or default_actor(), timeout, json, cluster), **kwargs)

    if acts:
        option = click.option(
            "--actor", envvar="MUSTER_ACTOR", help="Who does it, for the record.  [default: user@host]"
        )
        wrapped = option(wrapped)
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
