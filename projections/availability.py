"""Does anybody serve a shard? What its keyspace says of it, against what the cluster says of its owner.

A keyspace and the cluster are streams of their own, mostly of two partitions, so neither knows: the question can only be
asked where both are read. HTTP, watches and metrics ask the functions here; PostgreSQL asks `UNAVAILABLE_SQL` and `CAUSE_SQL`,
which say the same of a row of shards `s` and of its owner's row `n`.
"""

from collections import Counter
from typing import Final

from domain.shards.cluster import Cluster
from domain.shards.shard import Keyspace, Status


def cause_of(owner: str | None, cluster: Cluster) -> str | None:
    """Why the owner serves none of its shards; None: it may, or there is no owner."""
    if owner is None:
        return None
    node = cluster.nodes.get(owner)
    if node is None:
        return f"its owner {owner} is not in the cluster"
    return None if node.alive else f"the lease of its owner {owner} has run out"


def is_unavailable(status: Status, cause: str | None) -> bool:
    """Whether nobody serves the shard though it was opened. One that was not opened yet is inactive, whatever its owner does."""
    return cause is not None and status != "inactive"


def unavailable(keyspace: Keyspace, cluster: Cluster) -> Counter[Status]:
    """How many of the keyspace's shards nobody serves, by their status."""
    # Few nodes own many shards: a cause is looked up once for each of them.
    pairs = Counter((shard.status, shard.owner) for shard in keyspace.shards.values())
    found = Counter[Status]()
    for (status, owner), count in pairs.items():
        if is_unavailable(status, cause_of(owner, cluster)):
            found[status] += count
    return found


CAUSE_SQL: Final = """CASE
    WHEN s.owner IS NULL THEN NULL
    WHEN n.node IS NULL THEN 'its owner ' || s.owner || ' is not in the cluster'
    WHEN NOT n.alive THEN 'the lease of its owner ' || s.owner || ' has run out' END"""

UNAVAILABLE_SQL: Final = "s.owner IS NOT NULL AND n.alive IS NOT TRUE AND s.status <> 'inactive'"
