"""What does not keep a rule of `test_shape` yet. These lists may only get shorter."""

from typing import Final

any_max: Final = 441
"""How often `Any` may stand in the product."""

CROWDED_FOLDERS: Final[frozenset[str]] = frozenset()
"""Folders of more than a dozen files."""

LONG_FILES: Final[frozenset[str]] = frozenset(
    {
        "tests/drivers/driver_contract.py",
        "tests/infra/kafka/test_log_faults.py",
        "tests/infra/log/log_contract.py",
        "tests/infra/shards/test_store.py",
        "tests/muster/agent/test_agent.py",
        "tests/muster/keyspace/test_keyspace.py",
        "tests/sagas/test_engine.py",
        "tests/sagas/test_shard_migration.py",
        "tests/simulation/data_node.py",
        "tests/workers/health/test_checker.py",
        "tests/workers/machine/test_partition.py",
        "tests/workers/node/test_data_node.py",
        "tests/workers/projector/test_projector.py",
        "tests/workers/writer/test_writer.py",
    }
)
"""Files of more than 400 lines. Those of tests are contracts and suites that read as one list."""

LONG_FUNCTIONS: Final[frozenset[str]] = frozenset(
    {
        "workers/http/controller/operation.py routes",
        "workers/http/shards/keyspaces.py routes",
        "workers/http/shards/nodes.py routes",
    }
)
"""Functions of more than 40 lines: tables of routes, one after another."""

MANY_PARAMETERS: Final[frozenset[str]] = frozenset(
    {
        "infra/kafka/log.py __init__",
        "infra/log/recorder.py __init__",
        "muster/agent/agent.py __init__",
        "muster/client/control/shards.py move",
    }
)
"""What takes more than 8 parameters: calls whose options are keywords, and constructors that are given their limits."""

CUT_AT_SLASHES: Final[frozenset[str]] = frozenset(
    {
        "infra/kafka/snapshots.py",
        "infra/local/jars.py",
        "muster/client/control/shards.py",
        "workers/http/routing.py",
    }
)
"""Where other things than names of streams are cut at slashes: keys of snapshots, paths of Maven and HTTP, typed ids."""

OPEN_ENDED: Final[frozenset[str]] = frozenset()
"""Functions `decide` and `evolve` that do not match a closed union, and leave it to none of the same name."""

SHARED_CLASS_NAMES: Final[dict[str, str]] = {
    "Event": "muster's is an event of the log as HTTP answers it; domain's is what all events derive from",
    "Group": "muster's is the client of a failover group; the machine's is what one append holds",
    "Instance": "muster's is what HTTP answers; domain's is what commands decide on",
    "Keyspace": "muster's is the client of a keyspace's data; domain's is the state of its stream",
    "Mark": "muster's is what HTTP answers; domain's stands in the state of an instance, and so in snapshots",
    "PublishedCommand": "a name of openapi.json as well as of muster",
    "Request": "muster's is a call that is spread over instances; that of HTTP is one that a controller was sent",
    "Route": "muster's leads from a key to a node; that of HTTP from a path to its handler",
    "Saga": "muster's is what HTTP answers; domain's is the state that sagas decide on",
    "Service": "muster's is a service's counts; domain's is the state of its stream",
    "Shard": "muster's is what HTTP answers; domain's is a part of the state of a keyspace",
}
"""Public class names of two modules, each with the reason. One of the two is always part of the published language, whose
names cannot change: what `muster` exports. The other is the word of the core, or of another wire, for the same thing."""

REPEATED_PATHS: Final[frozenset[str]] = frozenset(
    {
        "/v1/tasks",
    }
)
"""Paths of HTTP that are written twice."""

RULES_IN_FACES: Final[frozenset[str]] = frozenset(
    {
        "workers/http/shards/tasks.py refusal",
    }
)
"""Refusals that a face raises, which are none of parsing."""

SPARSELY_COMMENTED: Final[frozenset[str]] = frozenset()
"""Folders where fewer than 3 % of the lines have a comment."""

SPREAD_FIELDS: Final[frozenset[str]] = frozenset(
    {
        "began_at",
        "ended_at",
        "started_at",
    }
)
"""Fields of rows that stand in more than three files."""
