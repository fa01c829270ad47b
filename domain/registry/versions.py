"""The state of a service, version by version: what its events fold to.

A persistent map copies its nodes for each event, which took a tenth of a replay. Here the versions share one dict, which
belongs to the version that was made or read last (Baker's rerooting, decision 17):

    older ──a was …──▶ newer ──b was …──▶ newest: {a, b, c}         and when the older one is read
    older: {a, b, c} ◀──a is …── newer ◀──b is …── newest

Beside the instances stands what is known of names: who holds an instance, and which marks are kept for one that is gone. Few
events touch that, so persistent maps will do.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Final, NamedTuple

from immutables import Map

from domain.message import Recorded
from domain.registry.instance import (
    Instance,
    InstanceDeregistered,
    InstanceDrainEnded,
    InstanceMaintenanceCleared,
    InstanceRegistered,
    ServiceEvent,
)
from domain.registry.instance import evolve as evolve_instance
from domain.registry.status import Mark
from muster.wire.registry.check import HttpCheck, TcpCheck, TtlCheck
from muster.wire.value import value

falls_kept_seconds_max: Final = 60.0
falls_between_forgetting: Final = 64
names_kept_max: Final = 1_000
"""Of how many names a service keeps the marks while no instance has them; the one that left first is forgotten first."""


@value
class Kept:
    """The marks that are kept for a name; `version` is the service's when its instance left."""

    maintenance: Mark | None
    draining: Mark | None
    version: int


NOTHING: Final = Kept(None, None, 0)
NOBODY: Final[Map[str, str]] = Map()
NO_MARKS: Final[Map[str, Kept]] = Map()


class Falls(NamedTuple):
    """Who has fallen by a check of the controller's own, and when, in order: the first `end` that were `told`.

    The versions of a service share one list, to which only the newest adds. A persistent map costs several times as much.
    """

    told: list[tuple[datetime, str]]
    end: int

    def count(self, since: datetime) -> int:
        """How many fell since then, and in the minute before the newest. By halving, because it is asked at each fall."""
        if not self.end:
            return 0
        since = max(since, self.told[self.end - 1][0] - _KEPT)
        return self.end - bisect_left(self.told, since, 0, self.end, key=_at)

    def names(self, since: datetime) -> Iterator[str]:
        """Who fell since then, the newest first; who fell twice stands there twice."""
        for number in range(self.end - 1, self.end - 1 - self.count(since), -1):
            yield self.told[number][1]


_at: Final = itemgetter(0)
_KEPT: Final = timedelta(seconds=falls_kept_seconds_max)
NO_FALLS: Final = Falls([], 0)


def _and_one(
    falls: tuple[list[tuple[datetime, str]], int], at: datetime, name: str
) -> tuple[list[tuple[datetime, str]], int]:
    """These and one more. Now and then those of long ago are forgotten."""
    told, end = falls
    # Where an older version is folded on, as after a rollback, newer ones keep their list. The first one of all begins one.
    if len(told) != end or end % falls_between_forgetting == 0:
        told = told[bisect_left(told, at - _KEPT, 0, end, key=_at) : end]
    told.append((at, name))
    return told, len(told)


class Service:
    """A service as it stands after an event: `version` counts its events. A value, though its versions share one dict.

    `holders` are those of the instances whose holder said who it is; `kept` are the marks of names without an instance. How many
    are `healthy` and how many `doubted` is counted, since it is asked at each fall; `falls` are not in snapshots: after a start
    only what falls from then on falls together.

    The newest version has the dict. An older one remembers what the next event replaced. When it is read, as after a rollback,
    it takes the dict back.
    """

    __slots__ = ("_falls", "_instances", "_next", "doubted", "healthy", "holders", "kept", "version")

    def __init__(
        self,
        version: int,
        instances: dict[str, Instance],
        holders: Map[str, str] = NOBODY,
        kept: Map[str, Kept] = NO_MARKS,
        healthy: int | None = None,
        doubted: int = 0,
        falls: tuple[list[tuple[datetime, str]], int] = NO_FALLS,
    ) -> None:
        """The service of these instances by id; the dict becomes its own. `healthy`, `doubted`: how many are; None: unknown."""
        if healthy is None:
            healthy, doubted = _counted(instances)
        self.healthy = healthy
        self.doubted = doubted
        self._falls = falls
        self.version = version
        self.holders = holders
        self.kept = kept
        self._instances = instances
        self._next: tuple[Service, str, Instance | None] | None = None

    @property
    def falls(self) -> Falls:
        """Who has fallen lately."""
        return Falls(*self._falls)

    @property
    def instances(self) -> Mapping[str, Instance]:
        """The instances by id. Read it at once: it changes as soon as another version is read or folded on."""
        if self._next is not None:
            self._take_back()
        return self._instances

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Service):
            return NotImplemented
        beside = (self.version, self.holders, self.kept)
        return beside == (other.version, other.holders, other.kept) and dict(self.instances) == other.instances

    __hash__ = None  # type: ignore[assignment]

    def _take_back(self) -> None:
        """Undo the events after this version, newest first. Newer versions stay readable: each can redo its event."""
        version, path = self, []
        while version._next is not None:
            path.append((version, version._next))
            version = version._next[0]
        instances = version._instances
        # From the newest version, which has the dict, back to this one. Each newer version now keeps what it needs to
        # get the dict back in its turn.
        for older, (newer, name, before) in reversed(path):
            newer._next = older, name, instances.pop(name, None)
            if before is not None:
                instances[name] = before
        self._next = None


INITIAL: Final = Service(0, {}, healthy=0)


def evolve(state: Service, recorded: Recorded[ServiceEvent]) -> Service:
    """The service after the event."""
    name = recorded.event.instance
    # Another event was folded on this state before, and rolled back or only tried: take the dict back from there.
    if state._next is not None:
        state._take_back()
    instances = state._instances
    before = instances.get(name)
    # This may fail. The dict is written only after it, so a failure leaves the state as it was.
    after = evolve_instance(before, recorded)
    holders, kept, falls = state.holders, state.kept, state._falls
    healthy, doubted = state.healthy, state.doubted
    if before is not None and after is not None:  # As most events: nothing beside the instance changes.
        if before.health != after.health:
            if after.health == "healthy":
                healthy += 1
            elif before.health == "healthy":
                healthy -= 1
                # Nothing but this event changes the health of one that stays.
                if after.fell and own_check(after, recorded.event.check) is not None:  # type: ignore[union-attr]
                    falls = _and_one(falls, recorded.at, name)
        if before.suspect is not after.suspect:
            doubted += (after.suspect is not None) - (before.suspect is not None)
    else:
        holders, kept = _beside(state, before, recorded.event)
        healthy += _is_well(after) - _is_well(before)
        doubted -= before is not None and before.suspect is not None
    if instances:
        following = Service(state.version + 1, instances, holders, kept, healthy, doubted, falls)
        # From here on `state` has no dict. When it is read again, as after a rollback, it takes the dict back.
        state._next = following, name, before
    else:  # There is nothing to share: INITIAL begins all services.
        following = Service(state.version + 1, instances := {}, holders, kept, healthy, doubted, falls)
    if after is not None:
        instances[name] = after
    else:
        instances.pop(name, None)
    return following


def _is_well(instance: Instance | None) -> bool:
    return instance is not None and instance.health == "healthy"


def own_check(instance: Instance, name: str | None) -> HttpCheck | TcpCheck | None:
    """The instance's check of this name, if it is one that the controller asks itself."""
    for check in instance.spec.checks:
        if check.name == name and not isinstance(check, TtlCheck):
            return check
    return None


def _counted(instances: Mapping[str, Instance]) -> tuple[int, int]:
    healthy = sum(instance.health == "healthy" for instance in instances.values())
    return healthy, sum(instance.suspect is not None for instance in instances.values())


def _beside(state: Service, before: Instance | None, event: ServiceEvent) -> tuple[Map[str, str], Map[str, Kept]]:
    """Holders and kept marks once an instance has come or gone, or a kept mark was taken off. What cannot be is asserted away."""
    holders, kept, name = state.holders, state.kept, event.instance
    match event:
        case InstanceRegistered(holder=holder):
            # The marks that were kept stand in the event, and so in the instance.
            return holders if holder is None else holders.set(name, holder), _without(kept, name)
        case InstanceDeregistered():
            assert before is not None, f"{name} left before it came"
            maintenance = before.maintenance if event.keeps_maintenance else None
            draining = before.draining if event.keeps_drain else None
            if maintenance is not None or draining is not None:
                kept = _bounded(kept.set(name, Kept(maintenance, draining, state.version)))
            return holders.delete(name) if name in holders else holders, kept
        case InstanceMaintenanceCleared():
            assert name in kept, f"a mark of {name}, which is not registered, and for which none is kept"
            return holders, _marked(kept, name, replace(kept[name], maintenance=None))
        case InstanceDrainEnded():
            assert name in kept, f"a mark of {name}, which is not registered, and for which none is kept"
            return holders, _marked(kept, name, replace(kept[name], draining=None))
        case _:
            raise AssertionError(f"{type(event).__name__} brings or removes no instance")


def _marked(kept: Map[str, Kept], name: str, marks: Kept) -> Map[str, Kept]:
    nothing = marks.maintenance is None and marks.draining is None
    return kept.delete(name) if nothing else kept.set(name, marks)


def _without(kept: Map[str, Kept], name: str) -> Map[str, Kept]:
    return kept.delete(name) if name in kept else kept


def _bounded(kept: Map[str, Kept]) -> Map[str, Kept]:
    if len(kept) <= names_kept_max:
        return kept
    return kept.delete(min(kept, key=lambda name: kept[name].version))
