"""Carries out what the sagas of one partition ask of other aggregates, while the partition is written here.

A `ReignObserver` of its writer. It sends a saga's commands to other streams, sees their effect in those streams' states,
reports it to the saga by commands, and watches the instants that sagas wait for. Participants' tasks are not sent: they are a
view. Nothing here is remembered: what is still wanted is found again in the states, and a repeated command is answered
"already so".
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from domain.saga import ExpireStep, ReportStep, Saga
from infra.log.port import Cursor
from muster.wire.command import Envelope
from muster.wire.error import MusterError
from muster.wire.token import Positions
from sagas.catalogue import DEFINITIONS
from sagas.engine.definition import Action, Ask, Definitions, Heard, Wait
from sagas.engine.wanted import pending, task_id
from sagas.placement import NOTHING_KNOWN, Weights
from workers.sagas.upkeep import Observe, Submit, Upkeep
from workers.views.registry import Change
from workers.views.shards import ShardsChanged, ShardViews
from workers.writer.observer import ChangedItem

log = logging.getLogger(__name__)
look_seconds: Final = 0.5
ask_again_seconds: Final = 0.5
sagas_turn_max: Final = 200

States = Callable[[str], Any]
"""The state of any stream as the log has it, as far as it has been read here."""


@dataclass(slots=True)
class _Asked:
    """What a saga asks at one attempt of a step: of which streams, and which commands were accepted (by their place)."""

    task: str
    streams: frozenset[str]
    accepted: set[int] = field(default_factory=set)


class SagaDriver:
    """The driver of one partition. `observe` queues a command from inside at its writer, `submit` sends one to any stream;
    `states` gives the state of any stream.

    `clock` gives the instants that sagas wait for, `monotonic` the seconds between two looks around, `weights` what is known now
    of the loads of shards.
    """

    def __init__(
        self,
        observe: Observe,
        submit: Submit,
        states: States,
        views: ShardViews,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        definitions: Definitions = DEFINITIONS,
        weights: Callable[[], Weights] = lambda: NOTHING_KNOWN,
    ) -> None:
        self._observe = observe
        self._submit = submit
        self._states = states
        self._definitions = definitions
        self._upkeep = Upkeep(observe, submit, views, weights)
        self._clock, self._monotonic = clock, monotonic
        self._live: dict[str, Saga] = {}
        self._dirty: dict[str, None] = {}
        self._asked: dict[str, _Asked] = {}
        self._askers: dict[str, dict[str, None]] = {}
        self._timed: dict[str, Saga] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[None]] = {}
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
        """The aggregates of this partition stand like this now."""
        for stream, _, part in items:
            self._follow(stream, part)

    def _follow(self, stream: str, part: Any) -> None:
        if not isinstance(part, Saga):
            if self._upkeep.follow(stream, part):
                self._work.set()
        elif part.ended:
            self._live.pop(stream, None)
            self._timed.pop(stream, None)
            self._asks_nothing(stream)
        else:
            self._live[stream] = part
            self._look_at(stream)

    def ended(self) -> None:
        """Stop all work: another writer carries on."""
        self._reigning = False
        # A command that is on its way may still be decided. The next writer finds its effect, or asks again.
        for task in self._asking.values():
            task.cancel()
        self._upkeep.clear()
        for known in (self._live, self._dirty, self._asked, self._askers, self._timed):
            known.clear()

    @property
    def live(self) -> int:
        """How many sagas are under way here."""
        return len(self._live)

    @property
    def asks(self) -> set[str]:
        """The streams whose states sagas listen to now."""
        return set(self._askers)

    async def run(self) -> None:
        """Look after the sagas for ever."""
        around_at = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look_seconds):
                    await self._work.wait()
            # Before the sagas are looked at: news that come meanwhile wake this again.
            self._work.clear()
            while self._dirty:
                # A limited number at a time, so that the writer and everything else get their turn in between.
                self._turn()
                await asyncio.sleep(0)
            if self._reigning and self._monotonic() >= around_at:
                around_at = self._monotonic() + look_seconds
                self._look_around()

    def _viewed(self, partition: int, token: Positions, changed: ShardsChanged) -> None:
        """There is news of other streams. An event that names a saga is for that one only: many wait for slots at a time."""
        for stream in self._asked.keys() & changed.asked:
            self._look_at(stream)
        for stream in self._askers.keys() & changed.streams:
            self._look_at_askers(stream)

    def instances_changed(self, partition: int, cursor: Cursor, changes: Sequence[Change]) -> None:
        """There is news of services."""
        if self._askers:
            for stream in self._askers.keys() & {change.recorded.stream for change in changes}:
                self._look_at_askers(stream)

    def _look_at_askers(self, stream: str) -> None:
        for asker in self._askers[stream]:
            self._look_at(asker)

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
        """Report the effects that are there; send the commands that were not sent yet, or were answered "not yet"."""
        actions = self._actions(saga)
        asks = [action for action in actions if isinstance(action, Ask)]
        if any(isinstance(action, Wait) and action.until is not None for action in actions):
            self._timed[saga.id] = saga
        else:
            self._timed.pop(saga.id, None)
        if not asks:
            return self._asks_nothing(saga.id)
        asked = self._asks(saga, asks)
        for ask in asks:
            # All are listened to before any command is sent: what decides the step makes the commands needless.
            heard = ask.heard(self._states(ask.stream)) if ask.heard is not None else None
            if heard is not None:
                return self._report(saga, heard)
        for place, ask in enumerate(asks):
            if ask.command is not None and place not in asked.accepted and (saga.id, place) not in self._asking:
                asking = self._ask(saga, place, ask)
                self._asking[saga.id, place] = asyncio.create_task(asking, name=f"ask for {saga.id}")
        return None

    def _actions(self, saga: Saga) -> tuple[Action, ...]:
        return pending(saga, self._definitions[saga.definition, saga.definition_version])

    def _asks(self, saga: Saga, asks: Sequence[Ask]) -> _Asked:
        """What the saga's attempt has asked so far. From now on it is looked at when one of the streams has news."""
        asked = self._asked.get(saga.id)
        # Another step or another attempt: what was accepted before it says nothing about this one.
        if asked is None or asked.task != task_id(saga):
            self._asks_nothing(saga.id)
            asked = self._asked[saga.id] = _Asked(task_id(saga), frozenset(ask.stream for ask in asks))
            for stream in asked.streams:
                self._askers.setdefault(stream, {})[saga.id] = None
        return asked

    def _asks_nothing(self, id_: str) -> None:
        asked = self._asked.pop(id_, None)
        for stream in asked.streams if asked is not None else ():
            del self._askers[stream][id_]
            if not self._askers[stream]:
                del self._askers[stream]

    async def _ask(self, saga: Saga, place: int, ask: Ask) -> None:
        try:
            again = await self._answered(saga, place, ask)
        finally:
            self._asking.pop((saga.id, place), None)
        # The saga has moved on meanwhile, and could not ask again at this place, since this command still held it.
        if again or self._live.get(saga.id) is not saga:
            self._look_at(saga.id)

    async def _answered(self, saga: Saga, place: int, ask: Ask) -> bool:
        """Send the command and hear its answer; whether to look again at once."""
        assert ask.command is not None, "there is something to ask"
        version = self._states(ask.stream).version
        # Under an id of its own each time: "not yet" is an answer that must not be remembered.
        id_ = f"{task_id(saga)}/{self._reign}.{version}" + (f"/{place}" if place else "")
        try:
            answer = await self._submit(Envelope(id_, ask.stream, ask.command, actor="muster", correlation_id=saga.id))
        except MusterError as error:
            # Nobody writes there now, or the answer is late. It is asked again until the step's timeout, if it
            # has one, ends the attempt.
            log.debug("a saga's command was not answered", extra={"saga": saga.id, "reason": error.detail})
            await asyncio.sleep(ask_again_seconds)
            return True
        if answer.error is not None:
            # Any other refusal is asked again when the stream has news.
            if ask.decisive:
                self._report(saga, Heard(error=f"{answer.error['name']}: {answer.error['detail']}"))
        elif ask.heard is None:
            self._report(saga, Heard(result={}))
        else:
            asked = self._asked.get(saga.id)
            if answer.status == "accepted" and asked is not None and asked.task == task_id(saga):
                asked.accepted.add(place)
            # News that came while the command was on its way could not ask again. So they are looked at now.
            return bool(self._states(ask.stream).version != version)
        return False

    def _report(self, saga: Saga, heard: Heard) -> None:
        """Report the effect to the saga, which sees by the attempt whether that comes too late."""
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
                # Another attempt would find the same state, and get the same answer.
                final=True,
            ),
        )

    def _look_around(self) -> None:
        """Act on what no event announces: instants that have come, and what the keyspaces here need."""
        now = self._clock()
        for saga in list(self._timed.values()):
            for action in self._actions(saga):
                due = isinstance(action, Wait) and action.until is not None and action.until <= now
                if due and saga.step is not None:
                    self._observe(saga.id, ExpireStep(step=saga.step, attempt=saga.attempt, kind="wait"))
        self._upkeep.look_around(self._live, now)
