"""The aggregate of a service's traffic: how its clients are to spread their calls; stream `traffic/<service>`.

Command    SetTraffic
Events     TrafficPolicySet · TrafficSlowStartSet · TrafficEjectionSet · TrafficLimitSet · TrafficRetryShareSet
           TrafficReportingSet
State      `TrafficState`: the settings that an operator has made, and how many events there were

Lives in the partition of its service, so that one position says how far a watcher of the service has heard of either. It may be
there before the service is, and stays when the service's last instance has gone: what has been promised to clients holds for
those that come later too. A setting that is None is not set, and left to each client.
"""

from dataclasses import replace
from typing import Annotated, Final, assert_never, get_args

from pydantic import Field, model_validator

from domain.decider import Decider
from domain.message import Event, Recorded, event
from muster.wire.command import Command, Flag
from muster.wire.registry.traffic import (
    SETTINGS,
    CallsSet,
    FailuresSet,
    Policy,
    ReportSet,
    SecondsSet,
    Setting,
    ShareSet,
)
from muster.wire.stream import TRAFFIC
from muster.wire.value import value


class SetTraffic(Command):
    """Set what is given, for all clients of the service that balance, and take back to "not set" what `default` names. The rest
    stays as it is.
    """

    type = "muster.traffic.set.v1"
    policy: Policy | None = None
    slow_start_seconds: SecondsSet | None = None
    eject_after: Annotated[FailuresSet | None, Field(description="Failures in a row; 0: never")] = None
    eject_seconds: SecondsSet | None = None
    limit: Flag | None = None
    in_flight_max: CallsSet | None = None
    retry_share: ShareSet | None = None
    report_seconds: Annotated[ReportSet | None, Field(description="0: clients tell nothing; else 0.1 and more")] = None
    # Named, and not a null: a null is what a setting that is not given is for many a serialiser.
    default: Annotated[tuple[Setting, ...], Field(max_length=len(SETTINGS))] = ()

    @model_validator(mode="after")
    def _means_something(self) -> "SetTraffic":
        given = self.model_dump(exclude_none=True, exclude={"default"})
        if not given and not self.default:
            raise ValueError("nothing is to be set: give a setting, or name one in `default`")
        if both := sorted(given.keys() & set(self.default)):
            raise ValueError(f"{both[0]}: it cannot be set and be taken back at once")
        return self


class TrafficEvent(Event):
    """An event about the traffic of a service. A setting that is None has been taken back."""

    __slots__ = ()


@event
class TrafficPolicySet(TrafficEvent):
    """Clients choose instances by this policy."""

    type = "muster.traffic.policy_set.v1"
    policy: Policy | None


@event
class TrafficSlowStartSet(TrafficEvent):
    """An instance that has just come gets less than its share for so long."""

    type = "muster.traffic.slow_start_set.v1"
    slow_start_seconds: float | None


@event
class TrafficEjectionSet(TrafficEvent):
    """Clients leave an instance out for so long after so many failures in a row."""

    type = "muster.traffic.ejection_set.v1"
    eject_after: int | None
    eject_seconds: float | None


@event
class TrafficLimitSet(TrafficEvent):
    """Whether clients refuse calls of low priority under overload, and how many calls each has under way at most."""

    type = "muster.traffic.limit_set.v1"
    limit: bool | None
    in_flight_max: int | None


@event
class TrafficRetryShareSet(TrafficEvent):
    """For each success clients may make so much of a retry."""

    type = "muster.traffic.retry_share_set.v1"
    retry_share: float | None


@event
class TrafficReportingSet(TrafficEvent):
    """So often clients tell the controllers what they see of instances; 0: they do not."""

    type = "muster.traffic.reporting_set.v1"
    report_seconds: float | None


AnyTrafficEvent = (
    TrafficPolicySet
    | TrafficSlowStartSet
    | TrafficEjectionSet
    | TrafficLimitSet
    | TrafficRetryShareSet
    | TrafficReportingSet
)


@value
class TrafficState:
    """The settings of a service's traffic; None: not set. `version` counts its events."""

    policy: Policy | None = None
    slow_start_seconds: float | None = None
    eject_after: int | None = None
    eject_seconds: float | None = None
    limit: bool | None = None
    in_flight_max: int | None = None
    retry_share: float | None = None
    report_seconds: float | None = None
    version: int = 0


INITIAL: Final = TrafficState()


def decide(command: SetTraffic, state: TrafficState) -> list[AnyTrafficEvent]:
    """What the command makes happen: an event for each kind of setting that becomes another; an empty list: already so."""
    match command:
        case SetTraffic():
            wanted: dict[str, object] = command.model_dump(exclude_none=True, exclude={"default"})
        case _:
            assert_never(command)
    wanted |= dict.fromkeys(command.default)
    after = replace(state, **wanted)  # type: ignore[arg-type] # the command has the same settings, with the same types
    pairs: tuple[tuple[AnyTrafficEvent, AnyTrafficEvent], ...] = tuple(zip(_told(state), _told(after), strict=True))
    return [new for old, new in pairs if new != old]


def _told(state: TrafficState) -> tuple[AnyTrafficEvent, ...]:
    """The settings as the events that would make them."""
    return (
        TrafficPolicySet(policy=state.policy),
        TrafficSlowStartSet(slow_start_seconds=state.slow_start_seconds),
        TrafficEjectionSet(eject_after=state.eject_after, eject_seconds=state.eject_seconds),
        TrafficLimitSet(limit=state.limit, in_flight_max=state.in_flight_max),
        TrafficRetryShareSet(retry_share=state.retry_share),
        TrafficReportingSet(report_seconds=state.report_seconds),
    )


def evolve(state: TrafficState, recorded: Recorded[AnyTrafficEvent]) -> TrafficState:
    """The settings after the event."""
    assert recorded.version == state.version, f"version gap: {recorded.version} after {state.version} events"
    happened, version = recorded.event, state.version + 1
    match happened:
        case TrafficPolicySet():
            return replace(state, policy=happened.policy, version=version)
        case TrafficSlowStartSet():
            return replace(state, slow_start_seconds=happened.slow_start_seconds, version=version)
        case TrafficEjectionSet():
            return replace(
                state, eject_after=happened.eject_after, eject_seconds=happened.eject_seconds, version=version
            )
        case TrafficLimitSet():
            return replace(state, limit=happened.limit, in_flight_max=happened.in_flight_max, version=version)
        case TrafficRetryShareSet():
            return replace(state, retry_share=happened.retry_share, version=version)
        case TrafficReportingSet():
            return replace(state, report_seconds=happened.report_seconds, version=version)
        case _:
            assert_never(happened)


DECIDER: Final[Decider[TrafficState, SetTraffic, AnyTrafficEvent]] = Decider(
    stream=TRAFFIC,
    commands=(SetTraffic,),
    events=get_args(AnyTrafficEvent),
    initial=INITIAL,
    decide=decide,
    evolve=evolve,
    state=TrafficState,
)
"""The traffic of services, for the rest of muster."""
