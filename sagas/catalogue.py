"""All sagas, as one literal table: each definition says which command starts it, on which facts, and what it does."""

from typing import Final

from sagas.engine.definition import Definitions, table
from sagas.group_failover import GROUP_FAILOVER
from sagas.shard_migration import SHARD_MIGRATION

DEFINITIONS: Final[Definitions] = table(
    SHARD_MIGRATION,
    GROUP_FAILOVER,
)
"""By name and version. A definition stays as long as a saga of it may run; new sagas get the newest one of its name."""
