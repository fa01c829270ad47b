"""How the clients of a service are to spread their calls over its instances: what an operator has set, and what holds otherwise.

Clients that balance (`muster.Balancer`) hear of it in the watch of the service. A setting that is None has not been set: then
each client takes its own, and those that say nothing take DEFAULTS.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import cache
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from muster.wire.command import Flag, Whole
from muster.wire.error import InvalidCommand
from muster.wire.problem import first_fault
from muster.wire.read_model import ReadModel
from muster.wire.telemetry.observations import REPORT_SECONDS_MIN, report_seconds_max

seconds_max: Final = 3_600.0
failures_max: Final = 1_000
calls_in_flight_max: Final = 1_000_000

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


def _not_too_often(seconds: float) -> float:
    if 0 < seconds < REPORT_SECONDS_MIN:
        raise ValueError(f"0, or {REPORT_SECONDS_MIN:g} and more: each report is a request to a controller")
    return seconds


# Strict, as JSON has them: a text is no number, and no truth value is one.
SecondsSet = Annotated[float, Field(strict=True, ge=0, le=seconds_max, allow_inf_nan=False)]
FailuresSet = Annotated[Whole, Field(ge=0, le=failures_max)]
CallsSet = Annotated[Whole, Field(ge=1, le=calls_in_flight_max)]
ShareSet = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
ReportSet = Annotated[
    float, Field(strict=True, ge=0, le=report_seconds_max, allow_inf_nan=False), AfterValidator(_not_too_often)
]
"""What each setting may be, whoever makes it: an operator for all clients, or a program for its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSettings:
    """What a client goes by. `slow_start_seconds`: for so long an instance that has just come gets less than its share (0: not
    at all). After `eject_after` failures in a row (0: never) a client leaves the instance out for `eject_seconds`.

    `limit`: calls of low priority are refused first when instances are overloaded; `in_flight_max`: the most calls that a client
    has under way at once. `retry_share`: for each success so much of a retry may be made. `report_seconds`: so often a client
    tells the controllers what it sees (0: never).
    """

    policy: Policy = "least_cost"
    slow_start_seconds: SecondsSet = 0.0
    eject_after: FailuresSet = 5
    eject_seconds: SecondsSet = 5.0
    limit: Flag = True
    in_flight_max: CallsSet = 10_000
    retry_share: ShareSet = 0.2
    report_seconds: ReportSet = 5.0


DEFAULTS: Final = TrafficSettings()
"""What holds where neither an operator nor the client's own program has said anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What an operator has set for the clients of a service; None: not set. `since`, `actor` and `reason` are those of the last
    change, `version` counts the changes. A policy that only newer versions know is kept as it came, and in force is another one.
    """

    service: str
    policy: Policy | str | None = None
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
        given = self.given
        if self.policy not in POLICIES:
            given.pop("policy", None)
        return TrafficSettings(
            **{each.name: given.get(each.name, each.default) for each in fields(TrafficSettings)}  # type: ignore[arg-type]
        )


TRAFFIC: Final = ReadModel(name="traffic", item=Traffic, key=("service",), watched=True)


def settings_of(given: Mapping[str, object]) -> TrafficSettings:
    """The defaults with what a program has given. Raises InvalidCommand by the bounds that hold for operators as well."""
    wanted = asdict(replace(DEFAULTS, **given))  # type: ignore[arg-type]
    try:
        return _settings().validate_python(wanted)
    except ValidationError as error:
        field, reason = first_fault(error)
        raise InvalidCommand(f"{field}: {reason}", field=field) from None


@cache
def _settings() -> TypeAdapter[TrafficSettings]:
    return TypeAdapter(TrafficSettings)
