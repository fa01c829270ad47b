"""Begins the failovers that are due in the groups of one partition, while it is written here.

A `ReignObserver` of its writer. What is due is a pure function of a group and the time. What is due at any time begins in the
decision that makes it due (`sagas.group_failover.begins`), without this; what waits for time to pass is looked at now and then,
and a group that waits for nothing is not looked at. It also tells the groups what checks say against the instances of their
members, which may be in other partitions: a suspicion, which proves nothing. Nothing is remembered: the next writer finds the
same to do.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from domain.groups.choice import due
from domain.groups.commands import Failover
from domain.groups.member import SuspectMember
from domain.groups.state import FailoverGroup
from domain.groups.timers import MemberPart
from domain.registry.instance import Instance
from infra.log.port import Cursor
from muster.wire.stream import service_stream
from workers.sagas.upkeep import Observe
from workers.views.registry import Change, RegistryViews
from workers.writer.observer import ChangedItem

look_seconds: Final = 0.25
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class GroupKeeper:
    """The keeper of one partition's groups. `observe` queues a command from inside at its writer; `clock` gives the time by which
    hold-downs pass, `registry` the instances.
    """

    def __init__(self, observe: Observe, registry: RegistryViews, clock: Callable[[], datetime]) -> None:
        self._observe = observe
        self._registry = registry
        self._clock = clock
        self._groups: dict[str, FailoverGroup] = {}
        self._waiting: dict[str, FailoverGroup] = {}
        self._of_service: dict[str, set[str]] = {}

    def began(self, streams: Mapping[str, object]) -> None:
        """Take over all groups of the partition."""
        for stream, state in streams.items():
            if isinstance(state, FailoverGroup):
                self._follow(stream, state)

    def changed(self, items: Sequence[ChangedItem]) -> None:
        """The aggregates of this partition stand like this now."""
        newest: dict[str, FailoverGroup] = {}
        for stream, _, part in items:
            group = part.group if isinstance(part, MemberPart) else part
            # Of one batch the parts come in any order, each with the group as it was at that part's last event.
            if isinstance(group, FailoverGroup) and (stream not in newest or newest[stream].version < group.version):
                newest[stream] = group
        for stream, group in newest.items():
            self._follow(stream, group)

    def ended(self) -> None:
        """Forget all groups: another writer carries on."""
        self._groups.clear()
        self._waiting.clear()
        self._of_service.clear()

    async def run(self) -> None:
        """Look at the time for ever."""
        while True:
            await asyncio.sleep(look_seconds)
            for stream, group in list(self._waiting.items()):
                self._begin(stream, group)

    def instances_changed(self, partition: int, cursor: Cursor, changes: Sequence[Change]) -> None:
        """There is news of services."""
        if self._of_service:
            for service in self._of_service.keys() & {change.recorded.stream for change in changes}:
                for stream in self._of_service[service]:
                    self._suspect(stream, self._groups[stream])

    def _follow(self, stream: str, group: FailoverGroup) -> None:
        before = self._groups.get(stream)
        was = before.settings.service if before is not None and before.settings is not None else None
        now = group.settings.service if group.settings is not None else None
        if was != now and was is not None:
            self._of_service[service_stream(was)].discard(stream)
        if now is not None:
            self._of_service.setdefault(service_stream(now), set()).add(stream)
        if group.settings is None:
            self._groups.pop(stream, None)
            self._waiting.pop(stream, None)
            return
        self._groups[stream] = group
        self._suspect(stream, group)
        # What would not be due at the end of all time is not due before, as long as the group stands like this.
        if due(group, _NEVER) is None:
            self._waiting.pop(stream, None)
        else:
            self._waiting[stream] = group
            self._begin(stream, group)

    def _begin(self, stream: str, group: FailoverGroup) -> None:
        if due(group, self._clock()) is not None:
            self._observe(stream, Failover(automatic=True))

    def _suspect(self, stream: str, group: FailoverGroup) -> None:
        """Tell the group what checks say of its members, where that has changed."""
        service = group.settings.service if group.settings is not None else None
        instances = self._registry.instances.get(service, {}) if service is not None else {}
        for name, member in group.members.items():
            evidence = against(instances.get(name))
            if evidence != member.suspect:
                self._observe(stream, SuspectMember(member=name, evidence=evidence))


def against(instance: Instance | None) -> str | None:
    """What the registry knows against a member's instance; None: nothing, also of one that is not registered."""
    if instance is None:
        return None
    if instance.maintenance is not None:
        return "its instance is in maintenance"
    if instance.draining:
        return "its instance is being drained"
    # What fails for all at once is no reason for a failover.
    if instance.health == "unhealthy" and instance.suspect is None:
        return f"its instance is unhealthy: {instance.cause or 'no cause was given'}"
    return None
