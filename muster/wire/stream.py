"""Streams: what they are called. The only place where a stream's name is made or taken apart.

    service/<name>                     a service and its instances
    keyspace/<name>                    a keyspace and its shards
    cluster                            the data nodes, and the slots that limit moves
    group/<name>                       a failover group: its members, and who of them is the primary
    traffic/<service>                  how the clients of a service are to spread their calls
    <root stream>/<saga>/<number>      one saga of that root, like keyspace/users/migration/17

The first four are root streams. A saga lives in the partition of its root, so a command for either is routed by the root; and
so does the traffic of a service: its root is `service/<service>`, though that may not be there yet.
"""

from functools import reduce
from typing import Annotated, Final

from pydantic import StringConstraints

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name in a stream or a path: 1 to 128 letters, digits, dots, dashes and underscores."""
NAME_FORM: Final = "must be 1 to 128 letters, digits, . _ - and begin with a letter or digit"
"""What a text that is no `Name` is refused with."""

SERVICE: Final = "service"
KEYSPACE: Final = "keyspace"
CLUSTER: Final = "cluster"
GROUP: Final = "group"
TRAFFIC: Final = "traffic"
SAGA: Final = "saga"

NAME: Final = NAME_PATTERN[1:-1]
"""`Name` as part of a longer regular expression."""

MIGRATION: Final = "migration"
"""What the sagas that move a shard are called in their streams."""

FAILOVER: Final = "failover"
"""What the sagas that give a group its next primary are called in their streams."""

SAGA_ROOTS: Final = {MIGRATION: KEYSPACE, FAILOVER: GROUP}
"""What sagas are called in their streams, and the kind of stream that each one's root is."""

_ROOTS: Final = {
    SERVICE: f"{SERVICE}/<name>",
    KEYSPACE: f"{KEYSPACE}/<name>",
    CLUSTER: CLUSTER,
    GROUP: f"{GROUP}/<name>",
    TRAFFIC: f"{TRAFFIC}/<service>",
}
_SAGAS: Final = [f"{_ROOTS[root]}/{saga}/<number>" for saga, root in SAGA_ROOTS.items()]
FORMS: Final = {**_ROOTS, SAGA: " or ".join(_SAGAS)}
"""What streams are called, by kind, for people."""

# At most 18 digits, so that each number fits into 64 bits.
_PARTS: Final = (("<name>", NAME), ("<service>", NAME), ("<number>", "[1-9][0-9]{0,17}"), (" or ", "|"))
PATTERNS: Final = {kind: reduce(lambda text, part: text.replace(*part), _PARTS, form) for kind, form in FORMS.items()}
"""The same as regular expressions without anchors."""


def service_stream(service: str) -> str:
    """The stream of a service."""
    return f"{SERVICE}/{service}"


def keyspace_stream(keyspace: str) -> str:
    """The stream of a keyspace."""
    return f"{KEYSPACE}/{keyspace}"


def group_stream(group: str) -> str:
    """The stream of a failover group."""
    return f"{GROUP}/{group}"


def traffic_stream(service: str) -> str:
    """The stream of a service's traffic."""
    return f"{TRAFFIC}/{service}"


def named_stream(kind: str, name: str) -> str:
    """The root stream of this kind with this name: `keyspace/users` of `keyspace` and `users`."""
    return f"{kind}/{name}"


def saga_stream(root: str, saga: str, number: int) -> str:
    """The stream of a root's saga of this name, counted from 1."""
    return f"{root}/{saga}/{number}"


def kind_of(stream: str) -> str:
    """The kind of a stream: `service`, `keyspace`, `cluster`, `group`, `traffic`, or `saga`."""
    first, _, rest = stream.partition("/")
    # The cluster's name is its kind alone, so whatever follows it is a saga's. With the others the first part that
    # follows is the name.
    below_root = bool(rest) if first == CLUSTER else "/" in rest
    return SAGA if below_root else first


def root_of(stream: str) -> str:
    """The root stream, by which a stream is routed: `keyspace/users` of `keyspace/users/migration/17`, `service/users` of
    `traffic/users`.
    """
    first, _, rest = stream.partition("/")
    # A watcher of a service hears of its traffic too, and goes on behind one position: both are in one partition.
    if first == TRAFFIC:
        first = SERVICE
    return f"{first}/{rest.partition('/')[0]}" if rest and first != CLUSTER else first


def name_of(stream: str) -> str:
    """The name in the root stream: `users` of `keyspace/users` and of `keyspace/users/migration/17`; empty for the cluster."""
    # Cut here and not out of `root_of`, which would cut three times: all folds ask for the name of every event.
    first, _, rest = stream.partition("/")
    return "" if first == CLUSTER else rest.partition("/")[0]


def saga_name_of(stream: str) -> str:
    """The name of a saga in its stream: `migration` of `keyspace/users/migration/17`."""
    return stream.rsplit("/", 2)[1]


def saga_number_of(stream: str) -> int:
    """The number of a saga in its stream: 17 of `keyspace/users/migration/17`."""
    return int(stream.rpartition("/")[2])


def saga_parts(text: str) -> tuple[str, ...] | None:
    """The parts of a saga's stream: those of its root, its name and its number; None: the text is no such stream."""
    parts = tuple(text.split("/"))
    # Three parts under the cluster, whose name is one part; four under all others.
    return parts if 3 <= len(parts) <= 4 and all(parts) and parts[-1].isdecimal() else None
