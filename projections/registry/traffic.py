"""How are the clients of a service to spread their calls, who has said so, and why? One row per service that was ever set."""

from typing import Final

from domain.message import Recorded
from domain.registry.traffic import DECIDER, INITIAL, AnyTrafficEvent, TrafficState, evolve
from muster.wire.error import TrafficNotFound
from muster.wire.registry import traffic
from muster.wire.stream import name_of
from projections.projection import Key, Projection


def key_of(recorded: Recorded) -> Key:
    """(service,)."""
    return (name_of(recorded.stream),)


def fold(row: traffic.Traffic | None, recorded: Recorded[AnyTrafficEvent]) -> traffic.Traffic:
    """The settings after the event: by the decider's own fold, so no reader can know others than commands are decided on."""
    # The row is the state with who and why beside it, so no second copy of the settings needs to be kept.
    before = INITIAL if row is None else TrafficState(**settings_of(row), version=row.version)  # type: ignore[arg-type]
    after = evolve(before, recorded)
    return traffic.Traffic(
        service=name_of(recorded.stream),
        **settings_of(after),  # type: ignore[arg-type] # the names and types are the same in both
        since=recorded.at,
        actor=recorded.actor,
        reason=recorded.reason,
        version=after.version,
    )


def settings_of(of: traffic.Traffic | TrafficState) -> dict[str, object]:
    """The settings by name."""
    # Both have the same names, held together by a test.
    return {name: getattr(of, name) for name in traffic.SETTINGS}


def _missing(key: Key) -> TrafficNotFound:
    return TrafficNotFound(f"nothing was ever set for the clients of {key[0]}; they take their own", service=key[0])


TRAFFIC: Final = Projection(
    name="traffic",
    revision=2,
    row=traffic.Traffic,
    key=("service",),
    events=frozenset(DECIDER.events),
    key_of=key_of,
    fold=fold,
    served=traffic.TRAFFIC,
    missing=_missing,
    summary="What is set for the clients of services: how they spread their calls, who has said so, and why",
    tag="traffic",
)
