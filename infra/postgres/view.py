"""What a projection's view shows: the columns of its table, and behind them what can be told from these when somebody reads.

shards      whether anybody serves the shard. Whose lease has run out stands in the rows of data nodes, which other events
            change, mostly of another partition; so owners are looked up, and no row of a shard can be behind its owner's.
instances   the marks: by whom, why and since when. The row has them already, among what it keeps beside its columns.

No row is built anew for such a column, and the views of an older muster are given it when this one starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from infra.postgres.table import AnyTable
from projections.availability import CAUSE_SQL, UNAVAILABLE_SQL
from projections.data_nodes import DATA_NODES
from projections.registry.instances import INSTANCES
from projections.shards import SHARDS

COMMENTS: Final[Mapping[str, str]] = {
    "services": "Services with instances, and how many of these have which health",
    "instances": "Instances that are registered; discovery offers those that are discoverable",
    "instances.cause": "Why the health is what it is",
    "instances.health_since": "UTC; so are all instants",
    "instances.maintenance": "Whether an operator has taken it out of discovery: by whom, why and since when stand beside it",
    "instances.draining": "Whether it is on its way out of discovery: by whom, why and since when stand beside it",
    "instances.incarnation": "Grows with each registration under the same name that is a new one",
    "healthy_instances": "Instances that discovery offers",
    "instance_history": "How many events each instance has had, and where the newest of them stand; also of those that are gone",
    "data_nodes": "Data nodes that are part of the cluster",
    "data_nodes.alive": "Whether it holds its lease: without one it serves nothing",
    "shards": "Shards that were opened, or pinned; of keyspaces that wait for their nodes there are none yet",
    "shards.status": "inactive, active or migrating, as the keyspace says; see unavailable for what the owner does",
    "shards.unavailable": "Whether nobody serves it though it was opened: its owner has lost its lease, or has left the cluster",
    "shards.cause": "Why its owner serves nothing",
    "shards.shard_number": "The shard as a number, as migrations have it",
    "groups": "Failover groups; SQL keeps the words group and primary for itself, so these columns are to be quoted",
    "groups.epoch": "The fencing token: it grows with each primary",
    "groups.degraded": "What is amiss, in a sentence; null: nothing",
    "groups.since": "Since when it is led by its primary, or by nobody",
    "traffic": "How the clients of services are to spread their calls, who has said so, and why; null: as clients do anyway",
    "migrations": "Moves of shards and other sagas, each with where it stands",
    "migrations.cause": "Why it turned back",
    "migrations.error": "What the step under way has failed with last",
}
"""What the views are about, and those of their columns that do not speak for themselves. `\\d+` of psql shows it."""


@dataclass(frozen=True, slots=True)
class View:
    """A view over the table `s`: its columns by name, as SQL, and what is joined for them."""

    table: str
    columns: Mapping[str, str]
    join: str = ""

    def query(self, condition: str = "TRUE") -> str:
        """What it selects, where the condition holds."""
        shown = ", ".join(f'{source} AS "{name}"' for name, source in self.columns.items())
        return f"SELECT {shown} FROM {self.table} s{self.join} WHERE {condition}"


def view_of(table: AnyTable, live: Mapping[str, int]) -> View:
    """The view over the table; `live` has the revisions, by projection, of the tables that are shown now."""
    own = {name: f's."{name}"' for name in table.visible}
    if table.projection is SHARDS:
        return _of_shards(table, own, live.get(DATA_NODES.name))
    marks = _marks(table) if table.projection is INSTANCES else {}
    return View(table.full_name, own | marks)


def _of_shards(table: AnyTable, own: dict[str, str], nodes: int | None) -> View:
    # Keys are text in all tables; migrations have the shard as a number, which joins this one.
    number = {"shard_number": "s.shard::integer"}
    # A replay may be of the shards alone: then nobody knows of their owners.
    if nodes is None:
        return View(table.full_name, own | number | {"unavailable": "NULL::boolean", "cause": "NULL::text"})
    join = f" LEFT JOIN {table.schema}.{DATA_NODES.name}_r{nodes} n ON n.node = s.owner"
    return View(table.full_name, own | number | {"unavailable": UNAVAILABLE_SQL, "cause": CAUSE_SQL}, join)


def _marks(table: AnyTable) -> dict[str, str]:
    found = {}
    for mark in ("maintenance", "draining"):
        place = f"s.rest::json -> {table.rest.index(mark)}"
        found[f"{mark}_by"] = f"{place} ->> 'actor'"
        found[f"{mark}_reason"] = f"{place} ->> 'reason'"
        found[f"{mark}_since"] = f"({place} ->> 'since')::timestamptz"
    return found
