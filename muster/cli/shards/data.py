"""Commands on keys and values: put, get, delete, scan."""

import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import click

from muster.cli.outcome import REFUSED, run, say, show
from muster.cli.remote import Remote, remote
from muster.wire import printable

if TYPE_CHECKING:
    from muster.keyspace.keyspace import Keyspace
    from muster.keyspace.operation import Applied

T = TypeVar("T")


@click.command()
@click.argument("keyspace")
@click.argument("key")
@click.argument("value")
@click.option("--write-id", help="May be repeated with the same id, and is applied once.")
@remote
def put(remote: Remote, keyspace: str, key: str, value: str, write_id: str | None) -> None:
    """Set KEY of KEYSPACE to VALUE (- for standard input)."""
    # Python makes surrogates of what is no UTF-8 on the command line; this gives the bytes back as they were.
    data = sys.stdin.buffer.read() if value == "-" else value.encode("utf-8", "surrogateescape")
    _applied(remote, keyspace, key, lambda opened: opened.put(key, data, write_id=write_id))


@click.command()
@click.argument("keyspace")
@click.argument("key")
@remote
def get(remote: Remote, keyspace: str, key: str) -> None:
    """Write the value of KEY of KEYSPACE to standard output, as it is (a terminal: as text). Exit code 1: there is none."""
    value = _call(remote, keyspace, lambda opened: opened.get(key))
    if remote.json:
        show({"key": key, "found": value is not None, **_document(value)})
    elif value is None:
        say(f"{keyspace} holds nothing under {key}", err=True)
    else:
        _write(value)
    # With --json too: a program need not read the document to know that there is nothing.
    if value is None:
        sys.exit(REFUSED)


@click.command()
@click.argument("keyspace")
@click.argument("key")
@click.option("--write-id", help="May be repeated with the same id, and is applied once.")
@remote
def delete(remote: Remote, keyspace: str, key: str, write_id: str | None) -> None:
    """Remove KEY of KEYSPACE; one that is not there is fine."""
    _applied(remote, keyspace, key, lambda opened: opened.delete(key, write_id=write_id))


@click.command()
@click.argument("keyspace")
@click.option("--limit", type=click.IntRange(min=1), help="End after so many.")
@remote
def scan(remote: Remote, keyspace: str, limit: int | None) -> None:
    """Write all keys and values of KEYSPACE, a line each; shard by shard, in key order within each."""

    async def work(opened: "Keyspace") -> None:
        count = 0
        # Closed here, so that the node's stream ends at once when the limit ends the loop.
        async with aclosing(opened.scan()) as pairs:
            async for key, value in pairs:
                if remote.json:
                    show({"key": key, **_document(value)})
                else:
                    click.echo(f"{_line(key.encode())}\t{_line(value)}")
                count += 1
                if count == limit:
                    return

    _call(remote, keyspace, work)


def _call(remote: Remote, keyspace: str, work: "Callable[[Keyspace], Awaitable[T]]") -> T:
    from muster.keyspace.keyspace import Keyspace

    async def opened() -> T:
        # One option for both waits: for the controller, and for the node that serves the key.
        seconds = remote.timeout_seconds
        async with Keyspace(
            keyspace, remote.urls, hold_seconds=seconds, timeout_seconds=seconds, cluster=remote.cluster
        ) as found:
            return await work(found)

    return run(opened, json=remote.json)


def _applied(remote: Remote, keyspace: str, key: str, work: "Callable[[Keyspace], Awaitable[Applied]]") -> None:
    applied = _call(remote, keyspace, work)
    if remote.json:
        show(applied)
        return
    again = ", as before" if applied.duplicate else ""
    say(f"written{again}: {keyspace}/{applied.shard} {key}, change {applied.position}, epoch {applied.epoch}")


def _write(value: bytes) -> None:
    """A file or a pipe gets the value and nothing else; a terminal gets text, of which it obeys nothing, and a line's end."""
    if not sys.stdout.isatty():
        click.echo(value, nl=False)
        return
    for line in value.decode(errors="backslashreplace").split("\n"):
        say(line)


def _document(value: bytes | None) -> dict[str, Any]:
    """The value for JSON: as text when it is text."""
    if value is None:
        return {"value": None}
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": b64encode(value).decode()}


def _line(data: bytes) -> str:
    """The bytes as text on one line; what cannot be printed is escaped as in Python."""
    # Backslashes are doubled first: afterwards a single one always begins an escape.
    text = data.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return printable(text)
