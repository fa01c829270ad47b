"""The projector: keeps the read models in PostgreSQL up with the log, each event exactly once.

    state of a partition        what it means
    ─────────────────────       ─────────────────────────────────────────────────────────────
    starting                    the stored cursor is being read
    catching up                 behind the log's end as it was at the start
    current                     every new batch is written as it comes
    waiting                     the database is away, or another projector is ahead; tried again with backoff
    corrupt                     the log is damaged, or an event cannot be decoded; it stops there
    rebuild                     the log contradicts the stored cursor: call `rebuild`

Whatever goes wrong, the pipeline's memory is dropped and it starts again from the cursor that the database holds; that
cursor and the rows are always of the same moment.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Any, Final

from infra.log.codec import CloudEventMapper
from infra.log.port import Cursor, EventLog
from infra.postgres.connections import UNAVAILABLE
from infra.postgres.load_tables import LoadTables
from infra.postgres.store import ReadStore
from muster.wire.backoff import pause_seconds
from muster.wire.error import Corrupt, CursorRefused, Transient
from projections.catalogue import PROJECTIONS
from projections.projection import AnyProjection
from workers.projector.pipeline import Limits, Pipeline

RETRY_SECONDS_FIRST: Final = 0.1
RETRY_SECONDS_MAX: Final = 5.0

_logger: Final = logging.getLogger("muster.projector")


class Projector:
    """Projects the logs, one per partition, into the store. `run` runs it; `status` tells how it is."""

    def __init__(
        self,
        logs: Sequence[EventLog],
        store: ReadStore,
        mapper: CloudEventMapper,
        projections: Sequence[AnyProjection] = PROJECTIONS,
        *,
        limits: Limits | None = None,
    ) -> None:
        self._logs, self._store, self._mapper, self._projections = logs, store, mapper, projections
        self._limits = limits or Limits()
        self._building: list[AnyProjection] = []
        self._current: set[tuple[int, str]] = set()
        self._pipelines: dict[tuple[int, str], Pipeline] = {}
        self._states: dict[tuple[int, str], tuple[str, str | None]] = {}
        self._again: dict[int, asyncio.Event] = {log.partition: asyncio.Event() for log in logs}

    @property
    def loads(self) -> LoadTables:
        """The tables of loads beside the read models."""
        return self._store.loads

    async def run(self) -> None:
        """Project for ever. Raises SchemaTaken when the store's schema serves something else."""
        try:
            async with asyncio.TaskGroup() as group:
                for log in self._logs:
                    group.create_task(self._keep(log, self._projections))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def rebuild(self, partition: int) -> None:
        """Throw away what the store holds of the partition and project it again from the log's start."""
        await self._store.reset(partition, self._projections)
        self._again[partition].set()

    def status(self) -> dict[str, Any]:
        """By partition and projection: `{state, detail, position, lag, parked, events_per_second}`.

        `lag` is in records; None: unknown.
        """
        return {
            str(log.partition): {
                projection.name: self._status(log.partition, projection) for projection in self._projections
            }
            for log in self._logs
        }

    def _status(self, partition: int, projection: AnyProjection) -> dict[str, Any]:
        place = partition, projection.name
        state, detail = self._states.get(place, ("starting", None))
        pipeline = self._pipelines.get(place)
        if pipeline is None:
            return {
                "state": state,
                "detail": detail,
                "position": None,
                "lag": None,
                "parked": 0,
                "events_per_second": 0.0,
            }
        return {
            "state": state,
            "detail": detail,
            "position": pipeline.cursor.position,
            "lag": pipeline.read - pipeline.cursor.position if pipeline.caught_up else None,
            "parked": pipeline.parked(projection),
            "events_per_second": round(pipeline.events_per_second, 1),
        }

    async def _keep(self, log: EventLog, projections: Sequence[AnyProjection]) -> None:
        """Keep projections of one partition going, whatever happens."""
        tries = 0
        while True:
            pipeline = None
            try:
                # Each time anew: a newer muster may have taken the schema over meanwhile.
                self._building = await self._store.prepare(self._projections)
                groups = await self._groups(log, projections)
                if len(groups) > 1:
                    # A new revision begins at the start while the others go on. Each group has its own pipeline from
                    # here on, and this call does not return.
                    await self._keep_all(log, groups.values())
                [cursor] = groups
                pipeline = self._pipeline(log, projections)
                await pipeline.run(cursor)
            except Corrupt as error:
                self._tell(log, projections, "rebuild" if isinstance(error, CursorRefused) else "corrupt", error.detail)
                self._again[log.partition].clear()
                await self._again[log.partition].wait()
            except (Transient, *UNAVAILABLE) as error:
                self._tell(log, projections, "waiting", f"{type(error).__name__}: {error}")
                tries = 0 if pipeline is not None and pipeline.events else tries + 1
                await asyncio.sleep(pause_seconds(tries, RETRY_SECONDS_FIRST, RETRY_SECONDS_MAX))

    async def _groups(self, log: EventLog, projections: Sequence[AnyProjection]) -> dict[Cursor, list[AnyProjection]]:
        """The projections by the cursor that the store holds."""
        cursors = await self._store.cursors(log.partition, projections)
        groups: dict[Cursor, list[AnyProjection]] = {}
        for projection in projections:
            groups.setdefault(cursors[projection.name], []).append(projection)
        return groups

    async def _keep_all(self, log: EventLog, groups: Collection[Sequence[AnyProjection]]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for projections in groups:
                tasks.create_task(self._keep(log, projections))

    def _pipeline(self, log: EventLog, projections: Sequence[AnyProjection]) -> Pipeline:
        pipeline = Pipeline(log, self._store, self._mapper, projections, self._limits, self._caught_up)
        for projection in projections:
            self._pipelines[log.partition, projection.name] = pipeline
            self._current.discard((log.partition, projection.name))
        self._tell(log, projections, "catching up", None)
        return pipeline

    async def _caught_up(self, pipeline: Pipeline) -> None:
        """The pipeline has come to the log's end; a projection that has done so everywhere is shown to readers."""
        for projection in pipeline.projections:
            self._current.add((pipeline.partition, projection.name))
            everywhere = all((log.partition, projection.name) in self._current for log in self._logs)
            # Only when every partition is there: shown earlier, the view would lack the rows of the others.
            if projection in self._building and everywhere:
                await self._store.switch(projection)
                self._building = [other for other in self._building if other is not projection]
                _logger.info("%s shows revision %d now", projection.name, projection.revision)
            self._states[pipeline.partition, projection.name] = ("current", None)

    def _tell(self, log: EventLog, projections: Sequence[AnyProjection], state: str, detail: str | None) -> None:
        for projection in projections:
            place = log.partition, projection.name
            if detail is not None and self._states.get(place) != (state, detail):
                _logger.warning("%s of partition %d: %s: %s", projection.name, log.partition, state, detail)
            self._states[place] = (state, detail)
