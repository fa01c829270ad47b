"""A data node's membership in the cluster: it joins, and renews its lease until it is cancelled or another process takes over.

join ──joined──▶ renew every quarter of the lease ──NodeNotFound: it was removed──▶ join again
                    └──StaleIncarnation: another process has joined as this node──▶ the end
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final
from uuid import uuid4

from muster.agent.lease import Lease
from muster.client.controllers.known import backoff_seconds
from muster.client.controllers.waiting import ControllerWait
from muster.client.transport import Transport, path_of
from muster.client.writing import written_of
from muster.clock import elapsed_seconds
from muster.durations import seconds_from
from muster.wire.command import new_id
from muster.wire.error import NodeNotFound, StaleIncarnation, Transient
from muster.wire.registry.answers import WRITTEN, Written

_LOG: Final = logging.getLogger("muster.agent")


class NodeMembership:
    """The membership of one process. `about` describes the node and its store to the controller; `lease` counts here."""

    def __init__(
        self, transport: Transport, node: str, lease: Lease, lease_seconds: float, about: Mapping[str, object]
    ) -> None:
        self._transport = transport
        self._node = node
        self._lease = lease
        self._lease_seconds = seconds_from(lease_seconds, "lease_seconds")
        self._about = {**about, "lease_seconds": lease_seconds, "process": uuid4().hex}
        self._incarnation: int | None = None

    @property
    def incarnation(self) -> int | None:
        """The one that this process has joined with; None: it is no member now."""
        return self._incarnation

    async def join(self) -> None:
        """Join, if the node is no member now; a controller that is away is waited for. Raises the refusal to let it join."""
        tries, wait = 0, ControllerWait(_LOG, f"{self._node} cannot join yet", lambda: self._transport.controllers.urls)
        while self._incarnation is None:
            sent_at = elapsed_seconds()
            try:
                with wait.asking():
                    written = await self._write("PUT", "", self._about)
            except Transient:
                await asyncio.sleep(backoff_seconds(tries))
                tries += 1
            else:
                self._incarnation = written.incarnation
                # From the sending on: the controller counts from the arrival, so the lease ends here first.
                self._lease.renewed(sent_at, self._lease_seconds, anew=True)
                _LOG.info("%s has joined, incarnation %s", self._node, self._incarnation)

    async def hold(self) -> None:
        """Renew the lease until cancelled; it is over after the return. Raises StaleIncarnation, and what `join` raises."""
        try:
            while True:
                await asyncio.sleep(self._lease_seconds / 4)
                await self.join()
                await self._renew()
        finally:
            self._lease.end()

    async def _renew(self) -> None:
        sent_at = elapsed_seconds()
        try:
            # A third of the lease: within it a controller that hangs leaves time for another one, and all of it for the next
            # renewal.
            written = await self._write("POST", "renew", {"incarnation": self._incarnation}, self._lease_seconds / 3)
        except NodeNotFound:
            _LOG.warning(
                "%s has been removed from the cluster: it joins again, and serves nothing until it has", self._node
            )
            self._lease.end()
            self._incarnation = None
            await self.join()
        except StaleIncarnation as error:
            _LOG.error("%s serves nothing any more: %s", self._node, error.detail)
            raise
        except Transient as error:
            _LOG.warning("the lease of %s was not renewed: %s", self._node, error.detail)
        else:
            # A renewal that changed something found the node lost: its shards may have changed, so it compares them anew.
            self._lease.renewed(sent_at, self._lease_seconds, anew=written.status == "accepted")

    async def _write(self, method: str, verb: str, body: object, seconds: float | None = None) -> Written:
        path = path_of("nodes", self._node, *filter(None, (verb,)))
        reply = await self._transport.write(method, path, body, command_id=new_id(), timeout_seconds=seconds)
        return written_of(self._transport, WRITTEN, reply)
