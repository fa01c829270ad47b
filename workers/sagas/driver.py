"""Does what the sagas of one partition want of other aggregates, while the partition is written here.

A `ReignObserver` of its writer. It sends a saga's commands to the cluster's stream, hears their effect in the views, gives the
saga what it heard as commands, and watches the instants that sagas wait for. Participants' tasks are not sent: they are a view.
Nothing here is remembered: what is still wanted is found again in the states, and a repeated command is answered "already so".
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from domain.saga import ExpireStep, ReportStep, Saga
from domain.shards.shard import Keyspace
from muster.wire.command import Envelope
from muster.wire.error import MusterError
from muster.wire.stream import CLUSTER
from muster.wire.token import Token
from sagas.engine.definition import Ask, Heard, Wait
from sagas.engine.wanted import task_id
from sagas.tasks import actions_of
from workers.sagas.upkeep import Observe, Submit, Upkeep
from workers.views.shards import Changed, ShardViews
from workers.writer.observer import ChangedItem

log = logging.getLogger(__name__)
look_seconds: Final = 0.5
ask_again_seconds: Final = 0.5
sagas_turn_max: Final = 200


class SagaDriver:
    """The driver of one partition. `observe` queues a command from inside at its writer, `submit` one for any stream.

    `clock` tells the instants that sagas wait for, `monotonic` the seconds between two looks around.
    """

    def __init__(
        self,
        observe: Observe,
        submit: Submit,
        views: ShardViews,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observe = observe
        self._submit = submit
        self._views = views
        self._upkeep = Upkeep(observe, submit, views)
        self._clock, self._monotonic = clock, monotonic
        self._live: dict[str, Saga] = {}
        self._dirty: dict[str, None] = {}
        self._asked: dict[str, tuple[str, bool]] = {}
        self._timed: dict[str, Saga] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._reign = 0
        self._reigning = False
        self._work = asyncio.Event()
        views.listen(self._viewed)

    def began(self, streams: dict[str, Any]) -> None:
        """Take over all sagas that are under way."""
        self._reign += 1
        self._reigning = True
        for stream, state in streams.items():
            self._follow(stream, state)

    def changed(self, items: Sequence[ChangedItem]) -> None:
        """The sagas and the keyspaces among them stand like this now."""
        for stream, _, part in items:
            self._follow(stream, part)

    def _follow(self, stream: str, part: Any) -> None:
        if isinstance(part, Saga):
            if part.ended:
                self._live.pop(stream, None)
                self._asked.pop(stream, None)
                self._timed.pop(stream, None)
            else:
                self._live[stream] = part
                self._look_at(stream)
        elif isinstance(part, Keyspace):
            self._upkeep.follow(stream, part)
            self._work.set()

    def ended(self) -> None:
        """Let everything be: another writer carries on."""
        self._reigning = False
        for task in self._asking.values():
            task.cancel()
        self._upkeep.clear()
        for known in (self._live, self._dirty, self._asked, self._timed):
            known.clear()

    @property
    def live(self) -> int:
        """How many sagas are under way here."""
        return len(self._live)

    async def run(self) -> None:
        """Look after the sagas for ever."""
        around_at = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look_seconds):
                    await self._work.wait()
            self._work.clear()
            while self._dirty:
                self._turn()
                await asyncio.sleep(0)
            if self._reigning and self._monotonic() >= around_at:
                around_at = self._monotonic() + look_seconds
                self._look_around()

    def _viewed(self, partition: int, token: Token, changed: Changed) -> None:
        """The cluster's stream has news: whoever asked for it may hear of it now, and when a node is away, anybody."""
        if not self._reigning:
            return
        for stream in self._asked if changed.nodes_away else self._asked.keys() & changed.asked:
            self._look_at(stream)

    def _look_at(self, stream: str) -> None:
        self._dirty[stream] = None
        self._work.set()

    def _turn(self) -> None:
        for stream in list(self._dirty)[:sagas_turn_max]:
            del self._dirty[stream]
            saga = self._live.get(stream)
            if saga is not None:
                self._look(saga)

    def _look(self, saga: Saga) -> None:
        """Hear what there is to hear; ask what has not been asked, or was answered "not yet"."""
        actions = actions_of(saga)
        asks = [action for action in actions if isinstance(action, Ask)]
        if any(isinstance(action, Wait) and action.until is not None for action in actions):
            self._timed[saga.id] = saga
        else:
            self._timed.pop(saga.id, None)
        if not asks:
            self._asked.pop(saga.id, None)
            return None
        if self._asked.get(saga.id, ("",))[0] != task_id(saga):
            self._asked[saga.id] = (task_id(saga), False)
        for ask in asks:
            heard = ask.heard(self._views.cluster) if ask.heard is not None else None
            if heard is not None:
                return self._tell(saga, heard)
        for ask in asks:
            if ask.command is not None and saga.id not in self._asking and not self._asked[saga.id][1]:
                self._asking[saga.id] = asyncio.create_task(self._ask(saga, ask), name=f"ask for {saga.id}")
        return None

    async def _ask(self, saga: Saga, ask: Ask) -> None:
        try:
            again = await self._answered(saga, ask)
        finally:
            self._asking.pop(saga.id, None)
        if again or self._live.get(saga.id) is not saga:
            self._look_at(saga.id)

    async def _answered(self, saga: Saga, ask: Ask) -> bool:
        """Send the command and hear its answer; whether to look again at once."""
        assert ask.command is not None, "there is something to ask"
        version = self._views.cluster.version
        # Under an id of its own each time: "not yet" is an answer that must not be remembered.
        id_ = f"{task_id(saga)}/{self._reign}.{version}"
        try:
            answer = await self._submit(Envelope(id_, CLUSTER, ask.command, actor="muster", correlation_id=saga.id))
        except MusterError as error:
            log.debug("a saga's command was not answered", extra={"saga": saga.id, "reason": error.detail})
            await asyncio.sleep(ask_again_seconds)
            return True
        if answer.error is not None:
            if ask.decisive:
                self._tell(saga, Heard(error=f"{answer.error['name']}: {answer.error['detail']}"))
        elif ask.heard is None:
            self._tell(saga, Heard(result={}))
        else:
            if answer.status == "accepted" and self._asked.get(saga.id, ("",))[0] == task_id(saga):
                self._asked[saga.id] = (task_id(saga), True)
            return self._views.cluster.version != version
        return False

    def _tell(self, saga: Saga, heard: Heard) -> None:
        """Give the saga what was heard; it knows by the attempt whether that comes too late."""
        if not self._reigning or saga.step is None:
            return
        self._observe(
            saga.id,
            ReportStep(
                step=saga.step,
                attempt=saga.attempt,
                outcome="done" if heard.error is None else "failed",
                result=dict(heard.result or {}),
                error=heard.error,
                final=True,
            ),
        )

    def _look_around(self) -> None:
        """Act on what no event announces: instants that have come, and what the keyspaces here need."""
        now = self._clock()
        for saga in list(self._timed.values()):
            for action in actions_of(saga):
                due = isinstance(action, Wait) and action.until is not None and action.until <= now
                if due and saga.step is not None:
                    self._observe(saga.id, ExpireStep(step=saga.step, attempt=saga.attempt, kind="wait"))
        self._upkeep.look_around(self._live)
