"""Writes long histories quickly, through the real codec, chain and log: registrations and flips of the data set."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from eventsourcing.persistence import StoredEvent
from pydantic import TypeAdapter

from benchmarks.data import service, spec
from domain.message import Recorded, to_json
from domain.registry.instance import InstanceHealthChanged, InstanceRegistered
from domain.registry.status import InstanceEvent
from infra.log.codec import CloudEventMapper, Draft
from infra.log.port import START, Cursor, EventLog
from muster.wire.registry.check import Health
from muster.wire.registry.spec import Spec
from muster.wire.route import partition_of

Told = tuple[str, InstanceEvent]

BATCH_EVENTS: Final = 100
"""Events per batch, as group commit makes them of busy writers."""

APPEND_RECORDS: Final = 2_000
_SPEC: Final = TypeAdapter(Spec)
_STRIDE: Final = 7_919


def events(registrations: int, flips: int) -> Iterator[Told]:
    """(stream, event) pairs: the registrations spread evenly over the flips of those who are there by then."""
    versions: dict[str, int] = {}
    health: list[str] = []
    flipped = 0
    for number in range(registrations):
        stream = f"service/{service(number)}"
        version = versions.get(stream, 0)
        yield stream, _registered(number, version)
        versions[stream] = version + 1
        health.append("unknown")
        for _ in range((number + 1) * flips // registrations - flipped):
            flipped += 1
            chosen = flipped * _STRIDE % len(health)
            stream = f"service/{service(chosen)}"
            yield stream, _flip(chosen, health, flipped)
            versions[stream] += 1


def _registered(number: int, version: int) -> InstanceRegistered:
    told = _SPEC.validate_python(spec(number))
    return InstanceRegistered(instance=f"i{number}", incarnation=version, spec=told, health="unknown")


def _flip(number: int, health: list[Health], flip: int) -> InstanceHealthChanged:
    was = health[number]
    to: Health = "unknown" if was == "unhealthy" else "unhealthy"
    health[number] = to
    return InstanceHealthChanged(
        instance=f"i{number}",
        was=was,
        to=to,
        cause=f"report {flip}",
        check="reported",
        check_status="healthy" if to == "unknown" else "unhealthy",
    )


class _Lane:
    """One partition's batches on their way to the log."""

    def __init__(self, log: EventLog, mapper: CloudEventMapper, cursor: Cursor) -> None:
        self.log, self.mapper, self.cursor = log, mapper, cursor
        self.drafts: list[Draft] = []
        self.stored: list[StoredEvent] = []

    @property
    def position(self) -> int:
        return self.cursor.position + 1 + len(self.drafts)

    async def add(self, draft: Draft) -> None:
        self.drafts.append(draft)
        if len(self.drafts) >= BATCH_EVENTS:
            self.seal()
            if len(self.stored) >= APPEND_RECORDS:
                await self.flush()

    def seal(self) -> None:
        if self.drafts:
            stored, self.cursor = self.mapper.seal(self.drafts, self.cursor, None)
            self.stored += stored
            self.drafts = []

    async def flush(self) -> None:
        self.seal()
        if self.stored:
            await self.log.append(self.stored)
            self.stored = []


async def write(logs: Mapping[int, EventLog], told: Iterator[Told], *, source: str = "/muster/default") -> None:
    """Append the events to empty partitions, a millisecond after one another, the last one about now."""
    mapper = CloudEventMapper(source)
    lanes = {number: _Lane(log, mapper, await log.claim("generator", START)) for number, log in logs.items()}
    versions: dict[str, int] = {}
    at, step = datetime.now(UTC) - timedelta(days=1), timedelta(milliseconds=1)
    for index, (stream, event) in enumerate(told):
        lane = lanes[partition_of(stream, len(lanes))]
        version = versions.get(stream, 0)
        versions[stream] = version + 1
        command = f"{index:032x}"
        recorded = Recorded(
            lane.log.partition,
            lane.position,
            stream,
            version,
            at + index * step,
            event,
            f"{command}:0",
            command,
            None,
            "bench",
            None,
        )
        await lane.add(Draft(recorded, f"{index:016x}", to_json(event)))
    for lane in lanes.values():
        await lane.flush()
