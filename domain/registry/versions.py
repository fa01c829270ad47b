"""The state of a service, version by version: what its events fold to.

A persistent map copies its nodes for each event, which took a tenth of a replay. Here the versions share one dict, which moves to
whichever is read (Baker's rerooting, decision 17):

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

    The newest version has the dict. An older one knows what the event behind it replaced, and takes the dict back when it is
    read, as after a rollback.
    """

    __slots__ = ("_instances", "_next", "version")

    def __init__(self, version: int, instances: dict[str, Instance]) -> None:
        """The service of these instances by id; the dict becomes its own."""
        self.version = version
        self._instances = instances
        self._next: tuple[Service, str, Instance | None] | None = None

    @property
    def instances(self) -> Mapping[str, Instance]:
        """Those here now, by id: to be read at once, not kept while another version is read or folded on."""
        if self._next is not None:
            self._take_back()
        return self._instances

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Service):
            return NotImplemented
        return self.version == other.version and dict(self.instances) == other.instances

    __hash__ = None  # type: ignore[assignment]

    def _take_back(self) -> None:
        """Undo what came behind this version, newest first; what is undone can be done again from the version before it."""
        version, path = self, []
        while version._next is not None:
            path.append((version, version._next))
            version = version._next[0]
        instances = version._instances
        # From the newest version, which has the dict, back to this one. Each newer one learns how to undo this in its
        # turn.
        for older, (newer, name, before) in reversed(path):
            newer._next = older, name, instances.pop(name, None)
            if before is not None:
                instances[name] = before
        self._next = None


INITIAL: Final = Service(0, {})


def evolve(state: Service, recorded: Recorded[ServiceEvent]) -> Service:
    """The service after the event."""
    name = recorded.event.instance
    # The state was folded on before, but that was rolled back or only foreseen: another future begins here.
    if state._next is not None:
        state._take_back()
    instances = state._instances
    before = instances.get(name)
    # This may fail. The dict is written only behind it, so a failure leaves the state as it was.
    after = evolve_instance(before, recorded)
    if instances:
        following = Service(state.version + 1, instances)
        # From here on `state` has no dict. Who reads it again, as after a rollback, takes the dict back.
        state._next = following, name, before
    else:  # There is nothing to share: INITIAL begins all services.
        following = Service(state.version + 1, instances := {})
    if after is not None:
        instances[name] = after
    else:
        del instances[name]
    return following
