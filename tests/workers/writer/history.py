"""A log in memory that tests write events into, and histories that could really have happened."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from eventsourcing.persistence import StoredEvent
from eventsourcing.popo import POPOApplicationRecorder
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
from hypothesis import strategies as st

from domain.groups import group as g
from domain.message import Event, Recorded
from domain.registry import service as s
from infra.log.codec import CloudEventMapper, Draft
from infra.log.engine import PartitionLog
from infra.log.port import START, Batch, Cursor
from infra.log.recorder import RecorderLog
from infra.sqlite.engine import open_embedded
from infra.sqlite.folder import LOG_FILE
from muster.wire.command import Command
from muster.wire.error import Refused
from muster.wire.stream import kind_of
from tests.domain.groups.strategies import OF_GROUPS
from tests.given import after
from tests.sample import FULL, NOON, PLAIN

ORIGINATOR = "muster.events/0"
MAPPER = CloudEventMapper()

Told = tuple[str, Event]


class History:
    """A log and its writer. The event at position n happens n seconds after noon. `log` is for readers."""

    def __init__(self) -> None:
        self.recorder = POPOApplicationRecorder()
        self.log = RecorderLog(self.recorder, 0, poll_seconds=0.001)
        self._written = RecorderLog(self.recorder, 0, now=lambda: NOON)
        self.cursor = START
        self.versions: dict[str, int] = {}
        self.recorded: list[Recorded] = []

    async def reign(self, writer: str = "w1") -> None:
        """Start a term."""
        self.cursor = await self._written.claim(writer, self.cursor)

    async def add(self, *events: Told, skip_versions: int = 0, seconds_back: int = 0) -> Cursor:
        """Append the events, each with its stream, as one batch; the cursor behind it."""
        if self.cursor == START:
            await self.reign()
        batch = []
        for index, (stream, event) in enumerate(events):
            version = self.versions.get(stream, 0) + skip_versions
            self.versions[stream] = version + 1
            position = self.cursor.position + 1 + index
            at = NOON + timedelta(seconds=position - seconds_back)
            told = Recorded(0, position, stream, version, at, event, f"e{position}", f"c{position}", None, "ann", None)
            batch.append(told)
        drafts = [Draft(told, "00" * 8, MAPPER.transcoder.encode(told.event)) for told in batch]
        stored, cursor = MAPPER.seal(drafts, self.cursor, None)
        await self._written.append(stored)
        self.cursor = cursor
        self.recorded += batch
        return cursor

    def put_foreign_bytes(self) -> None:
        """Something that is not ours, at the log's end."""
        position = len(self._stored())
        self.recorder.insert_events([StoredEvent(ORIGINATOR, position, "", b"what is this?")])

    def write_to(self, folder: Path, damaged: int | None = None) -> None:
        """Put the same records into an embedded data folder; that of the position `damaged` with another actor."""
        recorder = SQLiteApplicationRecorder(SQLiteDatastore(str(folder / LOG_FILE), originator_id_type="text"))
        recorder.create_table()
        stored = self._stored()
        if damaged is not None:
            value = stored[damaged].state.replace(b"ann", b"eve")
            stored[damaged] = StoredEvent(ORIGINATOR, damaged, "", value)
        recorder.insert_events(stored)

    def value(self, position: int) -> bytes:
        """The record's bytes."""
        return self._stored()[position].state

    def with_record(self, position: int, value: bytes | None) -> RecorderLog:
        """A log with the same records but for one: other bytes, or none."""
        stored = self._stored()
        stored[position : position + 1] = [] if value is None else [StoredEvent(ORIGINATOR, position, "", value)]
        recorder = POPOApplicationRecorder()
        recorder.insert_events(stored)
        return RecorderLog(recorder, 0)

    def _stored(self) -> list[StoredEvent]:
        return list(self.recorder.select_events(ORIGINATOR))


@asynccontextmanager
async def open_folder(folder: Path) -> AsyncIterator[list[PartitionLog]]:
    """The logs of an embedded data folder, for reading; also from other processes."""
    async with open_embedded(folder, read_only=True) as engine:
        yield list(engine.logs.values())


async def batches(log: RecorderLog) -> list[Batch]:
    return [batch async for batch in log.read(START)]


async def until(reached: Callable[[], bool], task: asyncio.Task[Any]) -> None:
    """Wait until it is so; the task's error, if that ends first."""
    while not reached():
        if task.done():
            task.result()
        await asyncio.sleep(0.002)


_NAMES = ("a", "b", "c")
_STATUS = ("healthy", "unhealthy", "unknown")


def _commands(instance: str) -> st.SearchStrategy[Command]:
    spec = st.sampled_from([PLAIN, FULL])
    status = st.sampled_from(_STATUS)
    return st.one_of(
        st.builds(s.RegisterInstance, instance=st.just(instance), spec=spec),
        st.builds(s.ReportHealth, instance=st.just(instance), status=status, cause=st.sampled_from([None, "käse"])),
        st.builds(s.ReportHealth, instance=st.just(instance), status=status, check=st.just("ttl")),
        st.sampled_from(
            [
                s.SetMaintenance(instance=instance),
                s.ClearMaintenance(instance=instance),
                s.DrainInstance(instance=instance),
                s.UndrainInstance(instance=instance),
                s.DeregisterInstance(instance=instance),
                s.Heartbeat(instance=instance),
            ]
        ),
    )


def _decided(commands: Sequence[tuple[str, Command]]) -> list[list[Told]]:
    states: dict[str, Any] = {}
    told = []
    for stream, command in commands:
        decider = {"service": s, "group": g}[kind_of(stream)]
        state = states.get(stream, decider.INITIAL)
        try:
            events = decider.decide(command, state)
        except Refused:
            continue
        states[stream] = after(decider, state, *events)
        if events:
            told.append([(stream, event) for event in events])
    return told


_of_services = st.tuples(
    st.sampled_from(["service/orders", "service/users"]), st.sampled_from(_NAMES).flatmap(_commands)
)
HISTORIES: st.SearchStrategy[list[list[Told]]] = st.lists(_of_services, max_size=40).map(_decided)
"""Batches of events of services with their streams, as the domain decided them."""

ALL_HISTORIES: st.SearchStrategy[list[list[Told]]] = st.lists(_of_services | OF_GROUPS, max_size=40).map(_decided)
"""The same, of services and failover groups."""
