"""The states of streams as JSON, for snapshots, and the revision that says whether this code can read them.

The revision is the hash of the schemas of all that a snapshot holds: nobody who changes a state or a row can forget to raise it.
A snapshot of another revision is left aside, and the log is read instead.
"""

import json
from functools import cache
from hashlib import sha256
from typing import Any, Final

from pydantic import TypeAdapter

from domain.catalogue import DECIDERS
from domain.registry.versions import Kept
from muster.wire.stream import kind_of
from projections.catalogue import PROJECTIONS

_layout: Final = 8
"""How chunks are laid out; the schemas do not say it."""

_KEPT: Final = {decider.stream: decider.state for decider in DECIDERS if decider.state is not None}

_ROWS: Final = [projection.row for projection in PROJECTIONS if projection.in_memory]


@cache
def _schema(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KEPT[kind])


def dumped(stream: str, state: Any) -> Any:
    """The state as plain JSON values."""
    return _schema(kind_of(stream)).dump_python(state, mode="json")


def loaded(stream: str, plain: Any) -> Any:
    """The state of what `dumped` gave."""
    return _schema(kind_of(stream)).validate_python(plain)


@cache
def revision() -> str:
    """The revision of snapshots that this code writes and reads."""
    schemas = [_plain(_schema(kind).json_schema(mode="serialization")) for kind in sorted(_KEPT)]
    schemas += [_plain(TypeAdapter(row).json_schema()) for row in (*_ROWS, Kept)]
    # A fold can change without its row's schema: the projection's revision says that.
    rows = [(projection.name, projection.revision) for projection in PROJECTIONS]
    said = json.dumps([_layout, rows, schemas], sort_keys=True)
    return f"{_layout}:{sha256(said.encode()).hexdigest()[:16]}"


def _plain(schema: Any) -> Any:
    """The schema without its texts: a better docstring makes no other revision."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _plain(part) for name, part in schema.items() if name not in ("title", "description")}
