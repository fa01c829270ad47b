"""How the clients of services spread their calls, as `Client.traffic`: set for all that run now and that come later.

    async with Client(actor="ops") as client:
        await client.traffic.set("users", policy="round_robin", reason="least_cost is drawn to the new hosts")
        print((await client.traffic.show("users")).in_force)

Clients hear of it in the watch of the service: `Client.watch("users", traffic=True)`, `muster.Balancer`.
"""

from collections.abc import Sequence
from typing import TypedDict

from typing_extensions import Unpack

from muster.client.rows import page_of, row_of
from muster.client.transport import Consistency, Transport, path_of
from muster.client.writing import write
from muster.wire.error import TrafficNotFound
from muster.wire.read_model import Page
from muster.wire.registry.answers import WRITTEN, Written
from muster.wire.registry.traffic import TRAFFIC, Policy, Setting, Traffic


class TrafficChange(TypedDict, total=False):
    """What can be set; see `muster.wire.registry.traffic.TrafficSettings`."""

    policy: Policy
    slow_start_seconds: float
    eject_after: int
    eject_seconds: float
    limit: bool
    in_flight_max: int
    retry_share: float
    report_seconds: float


class TrafficControl:
    """Reads and sets the traffic of services. Raises the refusals of `muster.wire.error`, as `Client`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def all(self, *, consistency: Consistency = "session") -> Page[Traffic]:
        """All services for which something was ever set, by name."""
        return await page_of(self._transport, TRAFFIC, {}, consistency)

    async def show(self, service: str, *, consistency: Consistency = "session") -> Traffic | None:
        """What is set for the service's clients; None: nothing ever was, so each takes its own."""
        # Nothing set is an answer here, and the usual one; HTTP has no row to show for it.
        try:
            return await row_of(self._transport, TRAFFIC, (service,), consistency)
        except TrafficNotFound:
            return None

    async def set(
        self,
        service: str,
        *,
        default: Sequence[Setting] = (),
        reason: str | None = None,
        expected_version: int | None = None,
        command_id: str | None = None,
        **settings: Unpack[TrafficChange],
    ) -> Written:
        """Set what is given, and take back to "not set" what `default` names; the rest stays.

        `expected_version` is that of the write before this one, one less than the `version` of what `show` returns, which counts
        the changes; else VersionConflict is raised.
        """
        # Left out where it is empty, so that a controller that is asked for no more than this reads no more either.
        body = {**settings, "default": list(default)} if default else dict(settings)
        return await write(
            self._transport,
            WRITTEN,
            "PUT",
            path_of("traffic", service),
            body,
            reason=reason,
            expected_version=expected_version,
            command_id=command_id,
        )
