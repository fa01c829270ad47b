"""Which instances telemetry watches, and for how long each may be silent: a lean fold of the registry's events.

Of an instance only this is kept: its incarnation, its lease, its ttl checks and what the log says of them. All instances of
the partition are, since one whose heartbeats are direct can change its mind.
"""

from collections.abc import Mapping
from functools import lru_cache
from sys import intern
from typing import Final

from domain.message import Event
from domain.registry.instance import (
    Instance,
    InstanceCheckChanged,
    InstanceChecksChanged,
    InstanceHealthChanged,
    InstanceHeartbeatsChanged,
    InstanceLeaseChanged,
    InstanceRegistered,
)
from muster.wire.registry.check import Health, TtlCheck
from muster.wire.registry.spec import Checks, Spec

Ttls = Mapping[str, float]
"""The seconds of each ttl check, by name."""

NEVER: Final = -1.0


class WatchedInstance:
    """An instance as telemetry sees it.

    `heard` is the second of its partition at which it was last heard, or from which on it is listened for; `heard_ms` the
    instant of that (-1: it was not heard yet). `told` is the second at which its silence was last told, `told_present` that
    at which its presence was (NEVER: not since). `entry` is the number of its entry among the deadlines (0: none).
    """

    __slots__ = (
        "counted",
        "entry",
        "heard",
        "heard_ms",
        "in_flight",
        "incarnation",
        "lease_seconds",
        "name",
        "service",
        "statuses",
        "told",
        "told_present",
        "topic",
        "ttls",
        "unwell",
    )

    def __init__(self, service: str, name: str, incarnation: int, spec: Spec) -> None:
        # One text for all instances of a service: each event brings its own.
        self.service, self.name, self.incarnation = intern(service), name, incarnation
        self.lease_seconds = spec.lease_seconds
        self.ttls: Ttls = ttls_of(spec.checks)
        self.statuses: dict[str, Health] = dict.fromkeys(self.ttls, "unknown") if self.ttls else _NO_STATUSES
        self.unwell = bool(self.ttls)
        self.topic = spec.heartbeats == "topic"
        self.heard, self.heard_ms = 0.0, -1
        self.told = self.told_present = NEVER
        self.in_flight: float | None = None
        self.counted = False
        self.entry = 0


_NO_STATUSES: Final[dict[str, Health]] = {}


@lru_cache(4_096)
def _shared(ttls: tuple[tuple[str, float], ...]) -> Ttls:
    return dict(ttls)


def ttls_of(checks: Checks) -> Ttls:
    """The ttl checks among the checks. The instances of a service have the same as a rule, and share them."""
    return _shared(tuple((check.name, check.ttl_seconds) for check in checks if isinstance(check, TtlCheck)))


def arrived(service: str, event: InstanceRegistered) -> WatchedInstance:
    """A new incarnation."""
    return WatchedInstance(service, event.instance, event.incarnation, event.spec)


def restored(instance: Instance) -> WatchedInstance:
    """An instance of a snapshot."""
    found = WatchedInstance(instance.service, instance.id, instance.incarnation, instance.spec)
    for name in found.ttls:
        found.statuses[name] = instance.checks[name].status
    found.unwell = any(status != "healthy" for status in found.statuses.values())
    return found


def change(watched: WatchedInstance, event: Event) -> bool:
    """Take the event into the instance; whether it changes what is watched for."""
    match event:
        case InstanceHealthChanged(check=str(check), check_status=status) if status is not None:
            return _said(watched, check, status)
        case InstanceCheckChanged():
            return _said(watched, event.check, event.to)
        case InstanceLeaseChanged():
            watched.lease_seconds = event.lease_seconds
        case InstanceHeartbeatsChanged():
            watched.topic = event.heartbeats == "topic"
        case InstanceChecksChanged():
            _checks(watched, event)
        case _:
            return False
    return True


def _said(watched: WatchedInstance, check: str, status: Health) -> bool:
    if check not in watched.ttls:
        return False
    watched.statuses[check] = status
    watched.unwell = any(status != "healthy" for status in watched.statuses.values())
    return True


def _checks(watched: WatchedInstance, event: InstanceChecksChanged) -> None:
    # As the decider's own fold: what an unchanged check has said stays, and what a kept one has.
    before, known = watched.ttls, watched.statuses
    watched.ttls = ttls_of(event.checks)
    stay = {name for name, seconds in watched.ttls.items() if name in event.kept or before.get(name) == seconds}
    watched.statuses = {name: known.get(name, "unknown") if name in stay else "unknown" for name in watched.ttls}
    watched.unwell = any(status != "healthy" for status in watched.statuses.values())
