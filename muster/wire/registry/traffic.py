"""How the clients of a service are to spread their calls over its instances: what an operator has set, and what holds otherwise.

Clients that balance (`muster.Balancer`) hear of it in the watch of the service. A setting that is None has not been set: then
each client takes its own, and those that say nothing take DEFAULTS.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Literal, get_args

from muster.wire.read_model import ReadModel

Policy = Literal["least_cost", "round_robin", "weighted_round_robin", "least_connections", "random"]
"""`least_cost`: of two at random the one with less latency and fewer calls in flight, by its weight; a failure costs a second."""

Setting = Literal[
    "policy",
    "slow_start_seconds",
    "eject_after",
    "eject_seconds",
    "limit",
    "in_flight_max",
    "retry_share",
    "report_seconds",
]
"""What an operator can set, by its name."""

SETTINGS: Final[tuple[Setting, ...]] = get_args(Setting)
POLICIES: Final[tuple[Policy, ...]] = get_args(Policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSettings:
    """What a client goes by. `slow_start_seconds`: for so long an instance that has just come gets less than its share (0: not
    at all). After `eject_after` failures in a row (0: never) a client leaves the instance out for `eject_seconds`.

    `limit`: calls of low priority are refused first when instances are overloaded; `in_flight_max`: the most calls that a client
    has under way at once. `retry_share`: for each success so much of a retry may be made. `report_seconds`: so often a client
    tells the controllers what it sees (0: never).
    """

    policy: Policy = "least_cost"
    slow_start_seconds: float = 0.0
    eject_after: int = 5
    eject_seconds: float = 5.0
    limit: bool = True
    in_flight_max: int = 10_000
    retry_share: float = 0.2
    report_seconds: float = 5.0


DEFAULTS: Final = TrafficSettings()
"""What holds where neither an operator nor the client's own program has said anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What an operator has set for the clients of a service; None: not set. `since`, `actor` and `reason` are those of the last
    change, `version` counts the changes.
    """

    service: str
    policy: Policy | None = None
    slow_start_seconds: float | None = None
    eject_after: int | None = None
    eject_seconds: float | None = None
    limit: bool | None = None
    in_flight_max: int | None = None
    retry_share: float | None = None
    report_seconds: float | None = None
    since: datetime
    actor: str
    reason: str | None = None
    version: int

    @property
    def given(self) -> dict[str, object]:
        """The settings that are set, by name."""
        found = {name: getattr(self, name) for name in SETTINGS}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def in_force(self) -> TrafficSettings:
        """What holds for a client that says nothing itself."""
        return TrafficSettings(
            **{each.name: self.given.get(each.name, each.default) for each in fields(TrafficSettings)}  # type: ignore[arg-type]
        )


TRAFFIC: Final = ReadModel(name="traffic", item=Traffic, key=("service",), watched=True)
