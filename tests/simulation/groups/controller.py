"""The controller in the simulation of groups: that of moves, with the keeper that begins the failovers that are due."""

import asyncio
from collections.abc import Callable
from typing import Any

from domain.message import Recorded
from infra.log.port import START
from tests.simulation.move_controller import MoveController, Post
from workers.sagas.group_keeper import GroupKeeper
from workers.views.registry import Change, RegistryViews
from workers.writer.observer import ChangedItem

Told = Callable[[Recorded], None]
Recording = Callable[[list[Recorded]], str]


class GroupController(MoveController):
    """`MoveController`, which runs the driver of all sagas, and a keeper of groups beside it."""

    _keeping: "asyncio.Task[None] | None" = None

    def __init__(self, registry: RegistryViews, told: Told, recording: Recording, post: Post) -> None:
        # Before the rest: the keeper begins with it, and each one that follows.
        self._registry = registry
        super().__init__(told, recording, post)

    def instances_changed(self, changes: list[Change]) -> None:
        """There is news of services."""
        self._keeper.instances_changed(1, START, changes)

    def stop(self) -> None:
        if self._keeping is not None:
            self._keeper.ended()
            self._keeping.cancel()
        super().stop()

    def _drive_anew(self) -> None:
        super()._drive_anew()
        self._keeper = GroupKeeper(
            lambda stream, command: self._observed.append((stream, command)),
            self._registry,
            lambda: self.now,
        )
        self._keeper.began(self.partition.streams)
        self._keeping = self._loop.create_task(self._keeper.run())

    def _state(self, stream: str) -> Any:
        # A group and its failovers are of one partition: neither is ever seen behind the other.
        return self.partition.state(stream)

    def _changed(self, items: list[ChangedItem]) -> None:
        super()._changed(items)
        self._keeper.changed(items)
