"""Commands about keyspaces: keyspace create|assign, keyspaces, shards, route, pin, unpin."""

from typing import TYPE_CHECKING, Final, cast

import click

from muster.cli.listing import listing, show_page
from muster.cli.outcome import say, show
from muster.cli.remote import Remote, reason_option, remote, tell
from muster.cli.shards.load import show_loaded
from muster.cli.table import TableColumn, coloured, columns
from muster.wire.read_model import Page
from muster.wire.registry.answers import Written
from muster.wire.shards.answers import KEYSPACES, Route, Shard

if TYPE_CHECKING:
    from muster.client.client import Client
    from muster.wire.shards.answers import Status

_COLOURS: Final = {"active": "green", "migrating": "yellow", "inactive": "red", "unavailable": "red"}


def _status(shard: Shard | Route) -> str:
    return "unavailable" if shard.unavailable else shard.status


_SHARDS: Final[list[TableColumn[Shard]]] = columns(
    "shard",
    TableColumn("OWNER", lambda row: row.owner or "-"),
    # The address of who serves nothing would send people there.
    TableColumn("ADDRESS", lambda row: (row.address if row.cause is None else None) or "-"),
    "epoch",
    TableColumn(
        "STATUS", lambda row: coloured(_status(row) + (", fenced" if row.fenced else ""), _COLOURS[_status(row)])
    ),
    "pinned",
    TableColumn("MOVE", lambda row: f"to {row.target} ({row.migration})" if row.migration else ""),
    "first_hash",
    "last_hash",
    "cause",
)


def _names(text: str | None) -> list[str] | None:
    # An option that was left out stays None: then the controller takes all nodes that can have shards.
    return [name.strip() for name in text.split(",") if name.strip()] if text is not None else None


@click.group()
def keyspace() -> None:
    """Create a keyspace, or give its shards to data nodes."""


@keyspace.command()
@click.argument("keyspace")
@click.option("--shards", type=int, required=True, help="How many; cannot be changed later.")
@click.option("--nodes", metavar="N1,N2", help="Who gets them.  [default: all data nodes that can take some]")
@click.option("--value-bytes-max", type=int, metavar="BYTES", help="The largest value.  [default: 1 MiB]")
@click.option(
    "--shard-bytes-max", type=int, metavar="BYTES", help="Of all keys and values of a shard.  [default: 4 GiB]"
)
@reason_option
@remote
def create(
    remote: Remote,
    keyspace: str,
    shards: int,
    nodes: str | None,
    value_bytes_max: int | None,
    shard_bytes_max: int | None,
    reason: str | None,
) -> None:
    """Have KEYSPACE, and spread its shards over data nodes."""
    alive: list[str] = []

    async def work(client: "Client") -> Written:
        written = await client.shards.create_keyspace(
            keyspace,
            shards,
            nodes=_names(nodes),
            value_bytes_max=value_bytes_max,
            shard_bytes_max=shard_bytes_max,
            reason=reason,
        )
        alive.extend(node.node for node in (await client.shards.nodes()).items if node.alive)
        return written

    tell(remote, f"keyspace {keyspace}, {shards} shards", work)
    if not alive:
        say(f"no data node has joined: start one, then `muster keyspace assign {keyspace}`", err=True)


@keyspace.command()
@click.argument("keyspace")
@click.option("--nodes", metavar="N1,N2", help="Who gets them.  [default: all data nodes that can take some]")
@reason_option
@remote
def assign(remote: Remote, keyspace: str, nodes: str | None, reason: str | None) -> None:
    """Spread the shards of KEYSPACE that nobody owns yet over data nodes."""
    tell(
        remote,
        f"assign keyspace {keyspace}",
        lambda client: client.shards.assign(keyspace, _names(nodes), reason=reason),
    )


keyspaces: Final = listing(
    KEYSPACES,
    "List the keyspaces, with their shards counted by status.",
    columns("keyspace", "shards", "active", "migrating", "inactive", "unavailable", "moves", "cleanups"),
)


@click.command()
@click.argument("keyspace")
@click.option("--owner", metavar="NODE")
@click.option("--status", type=click.Choice(["active", "migrating", "inactive", "unavailable"]))
@click.option("--load", "loaded", is_flag=True, help="Show what they have to do now, as their owners say.")
@remote
def shards(remote: Remote, keyspace: str, owner: str | None, status: str | None, loaded: bool) -> None:
    """List the shards of KEYSPACE: who owns them, with which epoch."""
    # Given together, the two mean what the column shows: one that nobody serves is not shown as active.
    unavailable = None if status in (None, "inactive") else status == "unavailable"
    of_keyspace = None if status == "unavailable" else cast("Status | None", status)

    async def listed(client: "Client") -> Page[Shard]:
        return await client.shards.shard_map(keyspace, owner=owner, status=of_keyspace, unavailable=unavailable)

    if loaded:
        show_loaded(remote, listed, keyspace)
    else:
        show_page(remote, remote.call(listed), _SHARDS)


@click.command()
@click.argument("keyspace")
@click.argument("key")
@remote
def route(remote: Remote, keyspace: str, key: str) -> None:
    """Say where KEY of KEYSPACE is: its hash, its shard, who owns that."""
    found = remote.call(lambda client: client.shards.route(keyspace, key))
    if remote.json:
        show(found)
        return
    where = found.cause or (f"{found.owner} at {found.address or 'no known address'}" if found.owner else "nobody")
    say(f"{keyspace}/{found.shard}, {_status(found)}: {where}, epoch {found.epoch} (hash {found.hash})")


@click.command()
@click.argument("keyspace")
@click.argument("shard", type=int)
@reason_option
@remote
def pin(remote: Remote, keyspace: str, shard: int, reason: str | None) -> None:
    """Keep SHARD of KEYSPACE where it is."""
    tell(remote, f"pin {keyspace}/{shard}", lambda client: client.shards.pin(keyspace, shard, reason=reason))


@click.command()
@click.argument("keyspace")
@click.argument("shard", type=int)
@reason_option
@remote
def unpin(remote: Remote, keyspace: str, shard: int, reason: str | None) -> None:
    """Let SHARD of KEYSPACE be moved again."""
    tell(remote, f"unpin {keyspace}/{shard}", lambda client: client.shards.unpin(keyspace, shard, reason=reason))
