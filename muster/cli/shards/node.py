"""Commands about data nodes: node drain|undrain|cordon|uncordon|remove, nodes, limits; node run is the server's."""

from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from muster.cli.listing import consistency_option, show_page
from muster.cli.of_server import WithServerCommands
from muster.cli.outcome import say, show
from muster.cli.remote import Remote, reason_option, remote, tell
from muster.cli.shards.load import show_loaded_nodes
from muster.cli.table import TableColumn, coloured, columns
from muster.wire.registry.answers import Written
from muster.wire.shards.answers import NODES, ClusterState, Node

if TYPE_CHECKING:
    from rich.text import Text

    from muster.client.client import Client, Consistency
    from muster.client.control.shards import NodeMark


def _state(node: Node) -> "Text":
    marks = [name for name, is_so in (("cordoned", node.cordoned), ("draining", node.draining)) if is_so]
    # A lost lease is the worst of it, whatever an operator has marked.
    colour = "red" if not node.alive else "yellow" if marks else "green"
    return coloured(", ".join(["alive" if node.alive else "lost", *marks]), colour)


@click.group(cls=WithServerCommands, of_server={"run": "node-run"})
def node() -> None:
    """Run a data node, or say what is to become of one."""


def _marking(name: str, mark: "NodeMark", *, sets: bool, help: str) -> click.Command:
    @click.command(name, help=help)
    @click.argument("node")
    @reason_option
    @remote
    def command(remote: Remote, node: str, reason: str | None) -> None:
        def work(client: "Client") -> Awaitable[Written]:
            change = client.shards.set_mark if sets else client.shards.clear_mark
            return change(node, mark, reason=reason)

        tell(remote, f"{name} {node}", work)
        if name == "drain" and not remote.json:
            _say_places(remote, node)

    return command


def _say_places(remote: Remote, node: str) -> None:
    """To which nodes the shards go, by what is known of them now: that may change before they all have gone."""
    # Strong: another controller's view may not have the drain yet, and would tell of none.
    found = remote.call(lambda client: client.row(NODES, node, consistency="strong"))
    if found.drain_places is not None:
        say(f"places its shards {found.drain_places}")


node.add_command(_marking("cordon", "cordon", sets=True, help="Let no new shards come to NODE."))
node.add_command(_marking("uncordon", "cordon", sets=False, help="Shards may come to NODE again."))
node.add_command(_marking("drain", "drain", sets=True, help="Move all shards away from NODE, and let none come."))
node.add_command(_marking("undrain", "drain", sets=False, help="NODE stays after all. Moves under way go on."))


@node.command()
@click.argument("node")
@click.option("--force", is_flag=True, help="Though it owns shards: they are given up.")
@reason_option
@remote
def remove(remote: Remote, node: str, force: bool, reason: str | None) -> None:
    """NODE will not come back: forget it. Stop its process first: one that runs joins again."""
    tell(remote, f"remove {node}", lambda client: client.shards.remove(node, force=force, reason=reason))


_NODES: Final[list[TableColumn[Node]]] = columns(
    "node",
    "address",
    "zone",
    "capacity",
    TableColumn("LEASE", lambda row: f"{row.lease_seconds:g}s"),
    TableColumn("STATE", _state),
    "shards",
    "moves",
    "incarnation",
    TableColumn("DRAIN WAITS FOR", lambda row: row.drain_waits_for or ""),
)


@click.command()
@click.option("--load", "loaded", is_flag=True, help="Show what they have to do now, as they say.")
@consistency_option
@remote
def nodes(remote: Remote, loaded: bool, consistency: "Consistency") -> None:
    """List the data nodes."""
    if loaded:
        show_loaded_nodes(remote, lambda client: client.shards.nodes(consistency=consistency))
    else:
        show_page(remote, remote.call(lambda client: client.shards.nodes(consistency=consistency)), _NODES)


@click.command()
@click.option("--node-moves", type=click.IntRange(min=1), help="How many moves a data node takes part in at a time.")
@click.option("--cluster-moves", type=click.IntRange(min=1), help="How many moves there are at a time.")
@reason_option
@remote
def limits(remote: Remote, node_moves: int | None, cluster_moves: int | None, reason: str | None) -> None:
    """Show the limits of concurrent moves, or change them."""

    async def work(client: "Client") -> ClusterState:
        # Read first: the command sets both limits, and one of them may not have been given.
        now = await client.shards.cluster()
        if node_moves is None and cluster_moves is None:
            return now
        wanted = replace(
            now,
            node_moves_max=node_moves or now.node_moves_max,
            cluster_moves_max=cluster_moves or now.cluster_moves_max,
        )
        await client.shards.set_move_limits(
            node_moves_max=wanted.node_moves_max, cluster_moves_max=wanted.cluster_moves_max, reason=reason
        )
        return wanted

    found = remote.call(work)
    if remote.json:
        show(found)
    else:
        say(f"moves at a time: {found.node_moves_max} per data node, {found.cluster_moves_max} in all")
