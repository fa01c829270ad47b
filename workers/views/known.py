"""Names that somebody asks about: refused when nobody has ever had them, with those that are known."""

from collections.abc import Iterable
from typing import Final

from muster.wire.error import (
    GroupNotFound,
    InstanceNotFound,
    InvalidCommand,
    KeyspaceNotFound,
    ServiceNotFound,
    TrafficNotFound,
)
from muster.wire.stream import (
    CLUSTER,
    FORMS,
    GROUP,
    KEYSPACE,
    SAGA_ROOTS,
    SERVICE,
    TRAFFIC,
    kind_of,
    name_of,
    root_of,
    saga_parts,
)
from projections.registry.traffic import TRAFFIC as TRAFFIC_ROWS
from workers.views.views import Views

named_max: Final = 100


def check_stream(name: str, views: Views) -> None:
    """Raises InvalidCommand when it is no stream's name; ServiceNotFound, KeyspaceNotFound, GroupNotFound or
    TrafficNotFound when nobody has had it."""
    # The traffic of a service lives with the service, and is a stream of its own all the same.
    root = name if kind_of(name) == TRAFFIC else root_of(name)
    kind, whose = kind_of(root), name_of(name)
    well_formed = kind == CLUSTER or (kind in (SERVICE, KEYSPACE, GROUP, TRAFFIC) and whose)
    if not well_formed or (name != root and not _is_saga(name, kind)):
        raise InvalidCommand(
            f"stream: {name[:140]!r} is no stream; streams are {', '.join(FORMS.values())}", field="stream"
        )
    if kind == KEYSPACE and whose not in views.shards.keyspaces:
        raise KeyspaceNotFound(f"no keyspace is called {whose!r}; {_known(views.shards.keyspaces)}", keyspace=whose)
    if kind == GROUP and root not in views.shards.groups:
        known = (name_of(stream) for stream in views.shards.groups)
        raise GroupNotFound(f"no failover group is called {whose!r}; {_known(known)}", group=whose)
    if kind == TRAFFIC and (whose,) not in (set_for := views.rows(TRAFFIC_ROWS)):
        known = (key[0] for key in set_for)
        raise TrafficNotFound(f"nothing was ever set for the clients of {whose!r}; {_known(known)}", service=whose)
    # By the history, which instances leave behind: what has happened to a service can be read when all have gone.
    if kind == SERVICE and whose not in (services := {key[0] for key in views.history}):
        raise ServiceNotFound(f"no service was ever called {whose!r}; {_known(services)}", service=whose)


def check_instance(instance: str, stream: str | None, views: Views) -> None:
    """Raises InstanceNotFound when no instance was ever called so, of the stream's service or of any."""
    service = None if stream is None else name_of(stream)
    known = {key[1] for key in views.history if service is None or key[0] == service}
    if instance not in known:
        raise InstanceNotFound(f"no instance was ever called {instance!r}; {_known(known)}", instance=instance)


def _is_saga(name: str, kind: str) -> bool:
    parts = saga_parts(name)
    return parts is not None and SAGA_ROOTS.get(parts[-2]) == kind


def _known(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - named_max} more" if len(found) > named_max else ""
    return f"known: {', '.join(found[:named_max])}{more}" if found else "there is none"
