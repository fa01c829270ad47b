"""The state of a service, version by version: what its events fold to.

A persistent map copies its nodes for each event, which took a tenth of a replay. Here the versions share one dict, which
belongs to the version that was made or read last (Baker's rerooting, decision 17):

    older ──a was …──▶ newer ──b was …──▶ newest: {a, b, c}         and when the older one is read
    older: {a, b, c} ◀──a is …── newer ◀──b is …── newest

Beside the instances stands what is known of names: who holds an instance, and which marks are kept for one that is gone. Few
events touch that, so persistent maps will do.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

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
from muster.wire.value import value

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


class Service:
    """A service as it stands after an event: `version` counts its events. A value, though its versions share one dict.

    `holders` are those of the instances whose holder said who it is; `kept` are the marks of names without an instance.

    The newest version has the dict. An older one remembers what the next event replaced. When it is read, as after a rollback,
    it takes the dict back.
    """

    __slots__ = ("_instances", "_next", "holders", "kept", "version")

    def __init__(
        self,
        version: int,
        instances: dict[str, Instance],
        holders: Map[str, str] = NOBODY,
        kept: Map[str, Kept] = NO_MARKS,
    ) -> None:
        """The service of these instances by id; the dict becomes its own."""
        self.version = version
        self.holders = holders
        self.kept = kept
        self._instances = instances
        self._next: tuple[Service, str, Instance | None] | None = None

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


INITIAL: Final = Service(0, {})


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
    holders, kept = state.holders, state.kept
    # Most events find an instance and leave one, and nothing beside it changes.
    if before is None or after is None:
        holders, kept = _beside(state, before, recorded.event)
    if instances:
        following = Service(state.version + 1, instances, holders, kept)
        # From here on `state` has no dict. When it is read again, as after a rollback, it takes the dict back.
        state._next = following, name, before
    else:  # There is nothing to share: INITIAL begins all services.
        following = Service(state.version + 1, instances := {}, holders, kept)
    if after is not None:
        instances[name] = after
    else:
        instances.pop(name, None)
    return following


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
