"""Takes and restores snapshots of a partition: its decider state, its views and its command ids, all at one cursor.

Rows are immutable, so a snapshot begins with copies of references and is encoded piece by piece while the partition goes on.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache, partial
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from typing import Any, Final, TypeVar

import orjson
from cramjam import zstd
from immutables import Map
from pydantic import TypeAdapter

from domain.registry.instance import Instance
from domain.registry.service import Service
from domain.registry.status import CheckStatus, Doubt, Mark
from domain.registry.versions import Kept
from infra.log.decoded import checks_of
from infra.log.port import Term
from infra.log.snapshot import PartitionSnapshot, SnapshotStore, chunk_bytes_max
from muster.wire.registry.check import Health
from muster.wire.registry.spec import Spec
from muster.wire.stream import SERVICE, kind_of, name_of, service_stream
from projections.migrations import MigrationRow
from projections.projection import Key
from projections.registry.history import HistoryRow
from projections.registry.services import ServiceRow
from workers.machine.command_ids import Piece
from workers.machine.partition import Partition
from workers.views.stored_state import dumped, loaded, revision
from workers.views.table import MemoryTable
from workers.views.terms import Terms
from workers.views.views import Views

events_between: Final = 50_000
recovering_seconds_between: Final = 60.0
rows_chunk_max: Final = 100
"""What a restore parses and builds at a time stays in the processor's cache: with 500 it takes a fifth longer."""

small_rows_chunk_max: Final = 4_000
built_max: Final = 1_024

_SERVICES: Final = TypeAdapter(list[ServiceRow])
_MIGRATIONS: Final = TypeAdapter(list[MigrationRow])
T = TypeVar("T")
Plain = dict[str, Any]
"""A JSON object."""

KeptRow = tuple[str, Key, object]
"""A row of a snapshot: which kind of row it is, its key, and what it says."""

Names = tuple[str, str, str | None, Kept | None]
"""A service's stream, the name of an instance, and who holds it; or which marks are kept for it, when it is gone."""


def _pieces(rows: Sequence[T], size: int) -> Iterator[list[T]]:
    iterator = iter(rows)
    while piece := list(islice(iterator, size)):
        yield piece


def _packed(chunk: bytes) -> bytes:
    """Compressed: all chunks are held until the manifest can name them, and they would be a fifth of all memory."""
    return bytes(zstd.compress(chunk, 1))


def _unpacked(chunk: bytes) -> bytes:
    return bytes(zstd.decompress(chunk))


def _rows(chunk: bytes) -> Any:
    return orjson.loads(_unpacked(chunk))["rows"]


def _sized(kind: bytes, rows: Sequence[object]) -> Iterator[bytes]:
    """The rows as one chunk, or as several where one would be too large to be stored."""
    encoded = orjson.dumps(rows, option=orjson.OPT_UTC_Z)
    if len(encoded) <= chunk_bytes_max or len(rows) == 1:
        yield b'{"kind":"%b","rows":%b}' % (kind, encoded)
    else:
        half = len(rows) // 2
        yield from _sized(kind, rows[:half])
        yield from _sized(kind, rows[half:])


def _names(stream: str, service: Service) -> Iterator[Names]:
    for name, holder in service.holders.items():
        yield stream, name, holder, None
    for name, kept in service.kept.items():
        yield stream, name, None, kept


def _beside(names: Iterable[Sequence[Any]]) -> tuple[Map[str, str], Map[str, Kept]]:
    """The holders and the kept marks of a service, from what `_names` gave."""
    holders, kept = {}, {}
    for _, name, holder, marks in names:
        if marks is None:
            holders[name] = holder
        else:
            kept[name] = _kept(marks)
    return Map(holders), Map(kept)


def _kept(marks: Plain) -> Kept:
    return Kept(_mark(marks["maintenance"]), _mark(marks["draining"]), marks["version"])


_service: Final = attrgetter("service")
_in_status: Final = itemgetter(*(field.name for field in fields(CheckStatus)))
_in_instance: Final = itemgetter(*(field.name for field in fields(Instance)))


# Of neighbours in a snapshot many are equal: to look for what was built last takes less than to build it, and to keep it.
_at: Final = lru_cache(built_max)(datetime.fromisoformat)


@lru_cache(built_max)
def _status(status: Health, cause: str | None, since: str) -> CheckStatus:
    return CheckStatus(status, cause, _at(since))


def _instance(plain: Plain) -> Instance:
    """The instance of its JSON object. The hashes in the manifest vouch for it, so it is built and not validated: 100,000
    in one second instead of two.
    """
    (
        id_,
        service,
        spec,
        incarnation,
        version,
        health,
        cause,
        since,
        statuses,
        registered,
        position,
        *marks,
        fell,
        doubt,
    ) = _in_instance(plain)
    spec["tags"] = tuple(spec["tags"])
    spec["checks"] = checks_of(orjson.dumps(spec["checks"]))
    checks = {name: _status(*_in_status(stored)) for name, stored in statuses.items()}
    spec, marks = Spec(**spec), map(_mark, marks)
    suspect = None if doubt is None else Doubt(**{**doubt, "since": _at(doubt["since"])})
    at, registered_at, marked = _at(since), _at(registered), (*marks, fell, suspect)
    return Instance(
        id_, service, spec, incarnation, version, health, cause, at, checks, registered_at, position, *marked
    )


def _mark(plain: Plain | None) -> Mark | None:
    return None if plain is None else Mark(plain["actor"], plain["reason"], datetime.fromisoformat(plain["since"]))


def is_due(events: int, seconds: float, *, recovered: bool) -> bool:
    """Whether to take a snapshot, this many events and seconds after the last one.

    While the log is read, one is obsolete a moment later: they are for a recovery so long that it must not begin anew.
    """
    return events >= events_between and (recovered or seconds >= recovering_seconds_between)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What a snapshot holds, all of it as of one cursor; rows and states by reference."""

    facts: dict[str, object]
    versions: list[tuple[str, int]]
    names: list[Names]
    history: list[tuple[str, str, int, tuple[int, ...]]]
    ids: list[tuple[str, str]]
    services: list[ServiceRow]
    states: list[tuple[str, object]]
    tables: list[tuple[MemoryTable[Any], list[Any]]]
    migrations: list[MigrationRow]
    instances: list[Instance]


def _encoded(copies: Copies) -> Iterator[bytes]:
    """The chunks, each encoded when it is asked for. A restore takes the kinds in any order."""
    for kind, listed in (("versions", copies.versions), ("history", copies.history), ("ids", copies.ids)):
        for piece in _pieces(listed, small_rows_chunk_max):
            yield orjson.dumps({"kind": kind, "rows": piece})
    for names in _pieces(copies.names, small_rows_chunk_max):
        yield from _sized(b"names", names)
    for services in _pieces(copies.services, small_rows_chunk_max):
        yield b'{"kind":"services","rows":%b}' % _SERVICES.dump_json(services)
    for states in _pieces(copies.states, rows_chunk_max):
        plain = [(stream, dumped(stream, state)) for stream, state in states]
        yield orjson.dumps({"kind": "states", "rows": plain})
    for table, rows in copies.tables:
        for held in _pieces(rows, small_rows_chunk_max):
            yield b'{"kind":"rows","rows":%b}' % table.dump(held)
    for migrations in _pieces(copies.migrations, rows_chunk_max):
        yield b'{"kind":"migrations","rows":%b}' % _MIGRATIONS.dump_json(migrations)
    for instances in _pieces(copies.instances, rows_chunk_max):
        yield from _sized(b"instances", instances)


def copied(partition: Partition, views: Views) -> Copies:
    """What a snapshot of now would hold: all copies are taken at this one cursor."""
    number = partition.number
    assert partition.cursor == views.cursors[number], "views and partition move together"
    # The states of services are not among the copies: while a snapshot is encoded, an older version of a service would
    # keep all that has replaced it since.
    streams = partition.committed()
    views.complete(number, streams)  # In the middle of a long recovery they may only have skimmed the log.
    services = [name_of(stream) for stream in streams if kind_of(stream) == SERVICE]
    states = [(stream, state) for stream, state in streams.items() if kind_of(stream) != SERVICE]
    moved = views.shards.migrations
    return Copies(
        facts={
            "last_at": partition.last_at.isoformat(),
            "ids_since": (partition.ids.since() or partition.last_at).isoformat(),
            "commands_offset": partition.commands_offset,
            "commands_topic": partition.commands_topic,
            "voids": views.voids[number],
            "terms": list(map(tuple, views.terms[number].known)),
        },
        versions=[(stream, streams[stream].version) for stream in map(service_stream, services)],
        names=[names for stream in map(service_stream, services) for names in _names(stream, streams[stream])],
        history=[
            (service, instance, row.events, row.positions)
            for (service, instance), row in views.history.items()
            if service_stream(service) in streams
        ],
        ids=list(partition.ids.recorded()),
        services=[row for name in services if (row := views.services.get((name,))) is not None],
        states=states,
        tables=[(table, list(table.rows.items())) for table in views.tables[number]],
        migrations=[moved[stream,] for stream, _ in states if (stream,) in moved],
        instances=[row for name in services for row in views.instances.get(name, {}).values()],
    )


def rows_of(copies: Copies) -> Iterator[KeptRow]:
    """All that is in the copies, row by row."""
    yield from (("versions", (stream,), version) for stream, version in copies.versions)
    for stream, name, holder, marks in copies.names:
        yield ("holders", (stream, name), holder) if marks is None else ("marks", (stream, name), marks)
    for service, instance, count, positions in copies.history:
        yield "history", (service, instance), HistoryRow(count, positions)
    yield from (("ids", (id_,), packed) for id_, packed in copies.ids)
    yield from (("services", (row.service,), row) for row in copies.services)
    yield from (("states", (stream,), state) for stream, state in copies.states)
    for table, rows in copies.tables:
        yield from ((table.projection.name, key, row) for key, row in rows)
    yield from (("migrations", (row.migration,), row) for row in copies.migrations)
    yield from (("instances", (row.service, row.id), row) for row in copies.instances)


def rows_in(snapshot: PartitionSnapshot, tables: Iterable[MemoryTable[Any]]) -> Iterator[KeptRow]:
    """All that is in the snapshot, row by row: what `rows_of` gives of the copies that it was made of."""
    named = {table.projection.name: table for table in tables}
    for packed in snapshot.chunks:
        chunk = orjson.loads(_unpacked(packed))
        kind, rows = chunk["kind"], chunk["rows"]
        if kind == "names":
            for stream, name, holder, marks in rows:
                yield ("holders", (stream, name), holder) if marks is None else ("marks", (stream, name), _kept(marks))
        elif kind == "history":
            yield from ((kind, (service, id_), HistoryRow(count, tuple(at))) for service, id_, count, at in rows)
        elif kind == "services":
            yield from ((kind, (row.service,), row) for row in _SERVICES.validate_python(rows))
        elif kind == "states":
            yield from ((kind, (stream,), loaded(stream, state)) for stream, state in rows)
        elif kind == "rows":
            yield from ((rows[0], key, row) for key, row in named[rows[0]].read(rows[1]))
        elif kind == "migrations":
            yield from ((kind, (row.migration,), row) for row in _MIGRATIONS.validate_python(rows))
        elif kind == "instances":
            yield from ((kind, (row.service, row.id), row) for row in map(_instance, rows))
        else:
            yield from ((kind, (key,), value) for key, value in rows)


def instances_in(snapshot: PartitionSnapshot) -> Iterator[Instance]:
    """The instances of a snapshot of this revision, a chunk at a time."""
    for chunk in map(_unpacked, snapshot.chunks):
        if chunk.startswith(b'{"kind":"instances"'):
            yield from map(_instance, orjson.loads(chunk)["rows"])


class Snapshotter:
    """Keeps a store supplied with snapshots of one partition."""

    def __init__(self, store: SnapshotStore, partition: Partition, views: Views) -> None:
        self._store = store
        self._partition = partition
        self._views = views
        self._taken_at = -1
        self._since = time.monotonic()  # When the last one was taken; before the first one, when this began.
        self.last_seconds = 0.0
        self.failures = 0

    @property
    def position(self) -> int:
        """The position of the newest snapshot; -1: none."""
        return self._taken_at

    async def restore(self) -> bool:
        """Bring the empty partition and views to the newest snapshot; whether there was a usable one."""
        snapshot = await self._store.load(self._partition.number)
        if snapshot is None or snapshot.revision != revision():
            return False
        self._restore(snapshot)
        self._taken_at = snapshot.cursor.position
        return True

    async def take_if_due(self, *, recovered: bool) -> None:
        """Take a snapshot when one `is_due`. `recovered`: the log was read to its end once."""
        events = self._partition.cursor.position - self._taken_at
        if is_due(events, time.monotonic() - self._since, recovered=recovered):
            await self.take()

    async def take(self) -> None:
        """Take a snapshot of now, in the background of whatever else runs."""
        if self._partition.cursor.position == self._taken_at or self._views.parked:
            return  # A row that stands still must not be taken for the truth at a later start.
        began = time.monotonic()
        # From here to the end of `copied` there is no await: all copies are taken at this one cursor, though encoded
        # later.
        number, cursor = self._partition.number, self._partition.cursor
        copies = copied(self._partition, self._views)
        chunks: list[bytes] = []
        for chunk in _encoded(copies):
            chunks.append(_packed(chunk))
            await asyncio.sleep(0)
        await self._store.save(number, PartitionSnapshot(cursor, revision(), copies.facts, chunks))
        # Only now: one that could not be saved does not count as taken.
        self._taken_at, self._since = cursor.position, time.monotonic()
        self.last_seconds = self._since - began

    def _restore(self, snapshot: PartitionSnapshot) -> None:
        partition, views = self._partition, self._views
        versions: dict[str, int] = {}
        names: list[Sequence[Any]] = []
        migrations: list[MigrationRow] = []
        ids: list[Piece] = []
        for packed in snapshot.chunks:
            chunk = _unpacked(packed)
            kind = bytes(chunk[9 : chunk.index(b'"', 9)])  # Every chunk begins with `{"kind":"`: nine bytes.
            if kind == b"ids":
                ids.append(partial(_rows, packed))  # Unpacked when a writer needs them; a reader never does.
                continue
            if kind == b"instances":
                for service, some in groupby(map(_instance, orjson.loads(chunk)["rows"]), _service):
                    views.instances.setdefault(service, {}).update((instance.id, instance) for instance in some)
                continue
            plain = orjson.loads(chunk)["rows"]
            if kind == b"versions":
                versions.update(plain)
            elif kind == b"names":
                names += plain
            elif kind == b"history":
                for service, instance, count, positions in plain:
                    views.history[service, instance] = HistoryRow(count, tuple(positions))
            elif kind == b"services":
                views.services.update({(row.service,): row for row in _SERVICES.validate_python(plain)})
            elif kind == b"states":
                partition.streams.update((stream, loaded(stream, state)) for stream, state in plain)
            elif kind == b"rows":
                for table in views.tables[partition.number]:
                    table.load(*plain)
            elif kind == b"migrations":
                migrations += _MIGRATIONS.validate_python(plain)
        partition.ids.restore(ids, datetime.fromisoformat(snapshot.facts["ids_since"]))
        partition.restored()
        views.shards.restore(partition.streams, migrations, datetime.fromisoformat(snapshot.facts["last_at"]))
        self._restore_services(versions, names)
        # Behind all rows: with its cursor the partition says that it holds what the log holds up to there.
        self._restore_facts(snapshot)

    def _restore_facts(self, snapshot: PartitionSnapshot) -> None:
        partition, views = self._partition, self._views
        partition.cursor = snapshot.cursor
        partition.last_at = datetime.fromisoformat(snapshot.facts["last_at"])
        partition.commands_offset = snapshot.facts["commands_offset"]
        partition.commands_topic = snapshot.facts["commands_topic"]
        views.voids[partition.number] = snapshot.facts["voids"]
        views.terms[partition.number] = Terms([Term(*term) for term in snapshot.facts["terms"]])
        views.stand(partition.number, snapshot.cursor)

    def _restore_services(self, versions: Mapping[str, int], names: Sequence[Sequence[Any]]) -> None:
        # Not chunk by chunk: the instances of a service may stand in several, and a service is made with all of them.
        beside = {stream: _beside(some) for stream, some in groupby(names, itemgetter(0))}
        for stream, version in versions.items():
            instances = dict(self._views.instances.get(name_of(stream), {}))
            self._views.registry.look(name_of(stream), instances.values())
            self._partition.streams[stream] = Service(version, instances, *beside.get(stream, ()))
