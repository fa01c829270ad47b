"""The participant: it joins the cluster, holds a lease, and does what moves of shards want of a store, by its driver.

    agent = Agent(driver, node="n1", address="10.0.0.7:9000", store="4f1a…", on_lease=server.serve_until, local=copies)
    await agent.run()

Whoever operates another store writes a `muster.wire.driver.ShardDriver` for it, and keeps two promises more:
* it acknowledges nothing, and answers no reads, before `on_lease` has told an instant (in time.monotonic()) that lies
  ahead, and from that instant on; -inf: not at all. It looks at the clock after a write has become durable;
* `store` is the same for as long as its data is: one process at a time can hold it.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final
from uuid import uuid4

from muster.agent.lease import Lease
from muster.agent.reports import Reports
from muster.agent.settle import Local, settle
from muster.agent.tasks import TaskRunner
from muster.client.event_stream import follow
from muster.client.keyed import Keyed
from muster.client.shards import ShardControl
from muster.client.transport import Transport, backoff_seconds, path_of
from muster.client.writing import write
from muster.wire import DEFAULT_URL
from muster.wire.driver import ShardDriver
from muster.wire.error import NodeNotFound, Refused, StaleIncarnation, Transient
from muster.wire.registry import WRITTEN, Written
from muster.wire.shards import TASK, Task

_LOG: Final = logging.getLogger("muster.agent")


class Agent:
    """One run of a data node's process, between its store and the controller; `run` is all there is to do with it.

    `address` (`host:port`) is where clients and other nodes reach the store. `local` gives the copies that are here, of
    whatever state. Belongs to one event loop.
    """

    def __init__(
        self,
        driver: ShardDriver,
        *,
        node: str,
        address: str,
        store: str,
        on_lease: Callable[[float], None],
        local: Local,
        url: str = DEFAULT_URL,
        zone: str = "",
        capacity: float = 1.0,
        lease_seconds: float = 5.0,
        tasks_in_flight_max: int = 32,
        pulls_in_flight_max: int = 8,
        timeout_seconds: float = 10.0,
    ) -> None:
        self.node = node
        self._driver = driver
        self._local = local
        self._lease_seconds = lease_seconds
        self._about = {
            "address": address,
            "zone": zone,
            "capacity": capacity,
            "lease_seconds": lease_seconds,
            "process": uuid4().hex,
            "store": store,
        }
        self._transport = Transport(url, actor=f"node {node}", timeout_seconds=timeout_seconds)
        self._shards = ShardControl(self._transport)
        self._lease = Lease(on_lease)
        self._incarnation: int | None = None
        self._reports = Reports(self._transport, node)
        self._tasks = TaskRunner(
            driver,
            self._reports.add,
            self._reports.progress,
            tasks_in_flight_max=tasks_in_flight_max,
            pulls_in_flight_max=pulls_in_flight_max,
        )

    async def run(self) -> None:
        """Take part until cancelled; a controller that is away is waited for. Behind it nothing is served any more.

        Raises StaleIncarnation when another process has joined as this node, NodeTaken when its id belongs to another
        store, and other refusals to let it join.
        """
        await self._transport.open()
        try:
            await self._join()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hold_lease(), name="lease")
                group.create_task(self._settle(), name="settle")
                group.create_task(self._follow_tasks(), name="tasks")
                group.create_task(self._reports.run(), name="reports")
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._lease.end()
            await self._tasks.close()
            await self._transport.close()

    # Lease

    async def _join(self) -> None:
        tries = 0
        while self._incarnation is None:
            sent_at = time.monotonic()
            try:
                written = await self._write("PUT", "", self._about)
            except Transient as error:
                _LOG.warning("%s cannot join yet: %s", self.node, error.detail)
                await asyncio.sleep(backoff_seconds(tries))
                tries += 1
            else:
                self._incarnation = written.incarnation
                self._lease.renewed(sent_at, self._lease_seconds, anew=True)
                _LOG.info("%s has joined, incarnation %s", self.node, self._incarnation)

    async def _hold_lease(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._lease_seconds / 4)
                await self._join()
                await self._renew()
        finally:
            self._lease.end()

    async def _renew(self) -> None:
        sent_at = time.monotonic()
        try:
            # A request that hangs must not cost the lease: the next one takes another connection.
            async with asyncio.timeout(self._lease_seconds / 3):
                written = await self._write("POST", "renew", {"incarnation": self._incarnation})
        except NodeNotFound:
            _LOG.warning(
                "%s has been removed from the cluster: it joins again, and serves nothing until it has", self.node
            )
            self._lease.end()
            self._incarnation = None
            await self._join()
        except StaleIncarnation as error:
            _LOG.error("%s serves nothing any more: %s", self.node, error.detail)
            raise
        except (Transient, TimeoutError) as error:
            _LOG.warning("the lease of %s was not renewed: %s", self.node, error if str(error) else "no answer in time")
        else:
            # A renewal that changed something found the node lost.
            self._lease.renewed(sent_at, self._lease_seconds, anew=written.status == "accepted")

    async def _write(self, method: str, verb: str, body: object) -> Written:
        path = path_of("nodes", self.node, *filter(None, (verb,)))
        return await write(self._transport, WRITTEN, method, path, body)

    # Serving

    async def _settle(self) -> None:
        while True:
            lapse = await self._lease.lapsed()
            await settle(self._driver, self.node, self._local, self._shards)
            if self._lease.settled(lapse):
                _LOG.info("%s serves what the shard map gives it", self.node)

    # Tasks

    async def _follow_tasks(self) -> None:
        view, tries = Keyed("id"), 0
        while True:
            # A controller that lags must not tell us a step of a move that has ended: nobody would clean up behind it.
            path, query = path_of("watch", "tasks"), {"node": self.node, "consistency": "strong"}
            try:
                async with aclosing(follow(self._transport, path, query, view.take, math.inf)) as changes:
                    async for changed in changes:
                        tries = 0
                        self._tasks.want({id_: _task(view.rows.get(id_)) for id_ in changed})
            except (Refused, Transient) as error:
                _LOG.warning("%s is not told its tasks: %s: %s", self.node, error.name, error.detail)
                await asyncio.sleep(backoff_seconds(tries))
                tries += 1


def _task(row: dict[str, Any] | None) -> Task | None:
    return TASK.validate_python(row) if row is not None else None
