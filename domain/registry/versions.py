"""The state of a service, version by version: what its events fold to.

A persistent map copies its nodes for each event, which took a tenth of a replay. Here the versions share one dict, which
belongs to the version that was made or read last (Baker's rerooting, decision 17):

    older ──a was …──▶ newer ──b was …──▶ newest: {a, b, c}         and when the older one is read
    older: {a, b, c} ◀──a is …── newer ◀──b is …── newest
"""

from collections.abc import Mapping
from typing import Final

from domain.message import Recorded
from domain.registry.instance import Instance, ServiceEvent
from domain.registry.instance import evolve as evolve_instance


class Service:
    """A service as it stands after an event: `version` counts its events. A value, though its versions share one dict.

    The newest version has the dict. An older one remembers what the next event replaced. When it is read, as after a rollback,
    it takes the dict back.
    """

    __slots__ = ("_instances", "_next", "version")

    def __init__(self, version: int, instances: dict[str, Instance]) -> None:
        """The service of these instances by id; the dict becomes its own."""
        self.version = version
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
        return self.version == other.version and dict(self.instances) == other.instances

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
    if instances:
        following = Service(state.version + 1, instances)
        # From here on `state` has no dict. When it is read again, as after a rollback, it takes the dict back.
        state._next = following, name, before
    else:  # There is nothing to share: INITIAL begins all services.
        following = Service(state.version + 1, instances := {})
    if after is not None:
        instances[name] = after
    else:
        del instances[name]
    return following
