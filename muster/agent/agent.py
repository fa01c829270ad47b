"""The participant: it joins the cluster, holds a lease, and carries out its store's part in moves through a driver.

    agent = Agent(driver, node="n1", address="10.0.0.7:9000", store="4f1a…", on_lease=server.serve_until, local=copies)
    await agent.run()

For another store, write a `muster.wire.shards.driver.ShardDriver`. Its server has to keep two more promises:
* it acknowledges writes and answers reads only before the instant (in `muster.clock.elapsed_seconds()`) that `on_lease` was
  last called with; -inf: not at all. It looks at the clock after a write has become durable;
* `store` stays the same as long as its data does: one process at a time can hold it.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from muster.agent.lease import Lease
from muster.agent.loads import LoadOf, LoadTelling
from muster.agent.membership import NodeMembership
from muster.agent.reports import Reports
from muster.agent.settle import Local, settle
from muster.agent.tasks import TaskRunner
from muster.client.control.shards import ShardControl
from muster.client.controllers.known import backoff_seconds
from muster.client.event_stream import follow
from muster.client.rows import Keyed
from muster.client.transport import Transport, path_of
from muster.wire import DEFAULT_URL
from muster.wire.error import Refused, Transient
from muster.wire.shards.answers import TASK, Task
from muster.wire.shards.driver import ShardDriver

_LOG: Final = logging.getLogger("muster.agent")


class Agent:
    """One run of a data node's process, between its store and the controller; use it by calling `run`.

    `address` (`host:port`) is where clients and other nodes reach the store. `local` returns the copies that are here, in
    any state. `load` says what a shard that serves here has to do; it is asked every five seconds. `url`, of one controller or
    of several, and `cluster` are as for `muster.Client`. Belongs to one event loop.
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
        load: LoadOf | None = None,
        url: str | Sequence[str] = DEFAULT_URL,
        cluster: str | None = None,
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
        self._transport = Transport(url, actor=f"node {node}", timeout_seconds=timeout_seconds, cluster=cluster)
        self._shards = ShardControl(self._transport)
        self._lease = Lease(on_lease)
        about = {"address": address, "zone": zone, "capacity": capacity, "store": store}
        self._membership = NodeMembership(self._transport, node, self._lease, lease_seconds, about)
        self._reports = Reports(self._transport, node)
        incarnation = lambda: self._membership.incarnation  # noqa: E731
        self._loads = None if load is None else LoadTelling(self._transport, node, incarnation, local, load)
        self._tasks = TaskRunner(
            driver,
            self._reports.add,
            self._reports.progress,
            tasks_in_flight_max=tasks_in_flight_max,
            pulls_in_flight_max=pulls_in_flight_max,
        )

    async def run(self) -> None:
        """Take part until cancelled; a controller that is away is waited for. After the return nothing is served any more.

        Raises StaleIncarnation when another process has joined as this node, NodeTaken when its id belongs to another
        store, and other refusals to let it join.
        """
        await self._transport.open()
        try:
            await self._membership.join()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._membership.hold(), name="lease")
                group.create_task(self._settle(), name="settle")
                group.create_task(self._follow_tasks(), name="tasks")
                group.create_task(self._reports.run(), name="reports")
                if self._loads is not None:
                    group.create_task(self._loads.run(), name="loads")
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            # The lease first: while tasks are being stopped, nothing may be acknowledged any more.
            self._lease.end()
            await self._tasks.close()
            await self._transport.close()

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
            # Strong: a controller that lags could hand out a step of a move that has ended, and nothing would undo it.
            path, query = path_of("watch", "tasks"), {"node": self.node, "consistency": "strong"}
            try:
                async with aclosing(follow(self._transport, path, query, view.take, math.inf)) as changes:
                    async for changed in changes:
                        tries = 0
                        self._tasks.want({id_: _task(view.rows.get(id_)) for id_ in changed})
            except (Refused, Transient) as error:
                _LOG.warning("%s does not receive its tasks: %s: %s", self.node, error.name, error.detail)
                await asyncio.sleep(backoff_seconds(tries))
                tries += 1


def _task(row: dict[str, Any] | None) -> Task | None:
    return TASK.validate_python(row) if row is not None else None
