"""What keyspaces need while no saga of theirs asks for it: clean-ups given up, slots given back, shards of draining nodes moved.

Nothing is remembered here. `look_around` finds in the states what is still to be done, and gives the command for it; a command
that was given twice is answered "already so".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container
from dataclasses import asdict
from datetime import datetime
from typing import Final

from domain.catalogue import Answer
from domain.shards.keyspace import AbandonCleanup, MoveShard
from domain.shards.node import ReleaseSlots
from domain.shards.shard import Keyspace
from muster.wire.command import Command, Envelope
from muster.wire.error import MusterError
from muster.wire.stream import CLUSTER, keyspace_stream, name_of
from sagas.placement import Weights
from workers.views.shards import ShardViews

log = logging.getLogger(__name__)

Observe = Callable[[str, Command], None]
"""Queue a command from inside for this stream, at the writer of its partition."""

Submit = Callable[[Envelope], Awaitable[Answer]]
"""Send a command to the writer of its stream, wherever that is."""

_ACTOR: Final = "muster"


class Upkeep:
    """The upkeep of the keyspaces of one partition, while it is written here."""

    def __init__(self, observe: Observe, submit: Submit, views: ShardViews, weights: Callable[[], Weights]) -> None:
        self._observe = observe
        self._weights = weights
        self._submit = submit
        self._views = views
        self._keyspaces: dict[str, Keyspace] = {}
        self._giving: dict[str, asyncio.Task[None]] = {}

    def follow(self, stream: str, part: object) -> bool:
        """Know the aggregate as it is now, if it is a keyspace. Returns whether it is."""
        if not isinstance(part, Keyspace):
            return False
        self._keyspaces[name_of(stream)] = part
        return True

    def clear(self) -> None:
        """Forget all keyspaces: another writer carries on."""
        self._keyspaces.clear()

    def look_around(self, live: Container[str], now: datetime) -> None:
        """Do what is due. `live` has the sagas of this partition that are under way."""
        self._abandon_cleanups()
        self._free_slots(live)
        self._drain_nodes(now)

    def _abandon_cleanups(self) -> None:
        """Give up the copies on nodes that have been removed."""
        for name, keyspace in self._keyspaces.items():
            for cleanup in keyspace.cleanups.values():
                if cleanup.due and cleanup.node in self._views.cluster.removed:
                    self._observe(keyspace_stream(name), AbandonCleanup(shard=cleanup.shard, node=cleanup.node))

    def _free_slots(self, live: Container[str]) -> None:
        """Give back what sagas hold that have ended: a request that came late can have taken slots after their release."""
        for saga in (*self._views.cluster.held, *self._views.cluster.waiting):
            # The version is in the id: slots that are taken once more, later, must not get the old answer.
            id_ = f"{saga}/slots/{self._views.cluster.version}"
            # Of sagas of keyspaces that are written elsewhere `live` knows nothing.
            if name_of(saga) in self._keyspaces and saga not in live:
                self._give(Envelope(id_, CLUSTER, ReleaseSlots(saga=saga), _ACTOR, "the saga has ended"))

    def _drain_nodes(self, now: datetime) -> None:
        """Start the next moves off draining nodes, of this partition's keyspaces."""
        for move in self._views.drain_plan(now, self._weights).moves:
            # The same id until the shard has had another move, so a repeat does not start a second one. What the plan rests on is
            # in it: that may change while nobody answers, and one id has one content.
            shard = f"{move.keyspace}/{move.shard}"
            about = f"drain/{move.node}/{shard}/{(move.latest or '0').rpartition('/')[2]}"
            weights = "" if move.weighed is None else "/{shard:g}/{source:g}/{target:g}".format(**asdict(move.weighed))
            if move.keyspace in self._keyspaces:
                command = MoveShard(shard=move.shard, target=move.target, weighed=move.weighed)
                stream, reason = keyspace_stream(move.keyspace), f"{move.node} is being drained"
                # Loads change all the time: while the one plan is on its way, another one for the shard is not sent.
                self._give(Envelope(f"{about}/{move.target}{weights}", stream, command, _ACTOR, reason), about)

    def _give(self, envelope: Envelope, about: str | None = None) -> None:
        """Give a command, unless one about the same is on its way. Its answer is not needed: what is still due is found again."""
        about = about or envelope.id
        if about in self._giving:
            return
        giving = self._giving[about] = asyncio.create_task(self._given(envelope))
        giving.add_done_callback(lambda _: self._giving.pop(about, None))

    async def _given(self, envelope: Envelope) -> None:
        try:
            answer = await self._submit(envelope)
        except MusterError as error:
            log.debug("a command was not answered", extra={"command": envelope.id, "reason": error.detail})
            return
        if answer.error is not None:
            log.warning("a command was refused", extra={"command": envelope.id, "error": answer.error})
