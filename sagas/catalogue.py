"""All sagas, as literal tables: their definitions, and the commands that start them."""

from typing import Final

from domain.shards.keyspace import MoveShard, shard_for
from domain.shards.shard import Keyspace
from muster.wire.command import Command
from muster.wire.stream import saga_stream
from sagas import shard_migration
from sagas.engine.course import Produced, Root
from sagas.engine.decide import start
from sagas.engine.definition import Definitions
from sagas.shard_migration import SHARD_MIGRATION

DEFINITIONS: Final[Definitions] = {(found.name, found.version): found for found in (SHARD_MIGRATION,)}
"""By name and version. A definition stays as long as a saga of it may run."""

STARTS: Final[tuple[type[Command], ...]] = (MoveShard,)
"""The commands that are answered with a new saga."""


def started(command: Command, stream: str, root: Root) -> tuple[str, list[Produced]]:
    """The new saga's stream, and the events that the command makes; none: already so. Raises a `Refused`."""
    assert isinstance(command, MoveShard)
    keyspace: Keyspace = root.state
    shard = shard_for(command, keyspace)
    saga_id = saga_stream(stream, "migration", keyspace.moves + 1)
    if command.target == (shard.target or shard.owner):
        return saga_id, []
    return saga_id, start(
        saga_id, shard_migration.NAME, shard_migration.facts(command, saga_id, keyspace), root, DEFINITIONS
    )
