"""The controller in the simulation of moves: the real partition machine and views, and a driver of its sagas, in one thread.

Every command is a group of its own. A crash forgets everything; what comes after it is folded from the log alone.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from domain import cluster, saga
from domain.catalogue import Answer
from domain.keyspace import AbandonCleanup
from domain.message import Command, Envelope, Recorded, root
from domain.node import ReleaseSlots
from domain.saga import ExpireStep, ReportStep, Saga
from infra.chain import Chain, term_started
from infra.codec import CloudEventMapper
from sagas.definition import Ask, Heard, Wait
from tests.sample import NOON
from workers.partition import Partition
from workers.shard_view import ShardViews, actions_of

Post = Callable[[str, str, Command, Callable[[Answer], None] | None], None]
ask_again_seconds = 1.0


class Crashed(Exception):
    """The controller died before it could answer; another one has taken over."""


class MoveController:
    """`told` hears of every recorded event; `recording` is asked what becomes of a batch: "record", "lose" or "die"."""

    def __init__(self, told: Callable[[Recorded], None], recording: Callable[[list[Recorded]], str]) -> None:
        self.log: list[tuple[bytes, bytes]] = []
        self.terms = 0
        self.monotonic = 0.0
        self._told = told
        self._recording = recording
        self._ids = count()
        self.start()

    def start(self) -> None:
        """A new process: it folds the log from its beginning, and claims it. It must know what the one before knew."""
        before = dict(self.partition.committed()) if self.terms else {}
        self.partition = Partition(0, CloudEventMapper())
        self.views = ShardViews()
        self.asked: dict[str, float] = {}
        self._read()
        assert self.partition.streams == before, "a replay from zero gives another state"
        self.terms += 1
        self.log.append((b"term", term_started(self.partition.cursor, f"w{self.terms}", NOON, "/muster/default").state))
        self._read()
        self.partition.begin(self.partition.cursor, 0.0)

    def _read(self) -> None:
        after = self.partition.cursor
        rest = [(position, *self.log[position]) for position in range(after.position + 1, len(self.log))]
        for batch in Chain(0, after).follow(rest):
            self.views.apply(0, {}, self.partition.fold(batch))

    @property
    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.monotonic)

    @property
    def sagas(self) -> list[Saga]:
        """All that have not ended."""
        return [found for found in self.views.sagas.values() if not found.ended]

    def ask(self, stream: str, command: Command, actor: str = "ann") -> Answer:
        """The answer to the command. Raises Crashed."""
        self.partition.open(self.now)
        answer = self.partition.handle(Envelope(f"c{next(self._ids)}", stream, command, actor))
        self._record()
        return answer

    def peek(self, stream: str, command: Command) -> list[Recorded]:
        """What would be recorded."""
        self.partition.open(self.now)
        self.partition.handle(Envelope("peek", stream, command, "ann"))
        _, folded, _ = self.partition.close()
        self.partition.rollback()
        return [recorded for recorded, _ in folded]

    def pass_time(self, seconds: float) -> None:
        """What has run out is recorded. Raises Crashed."""
        self.monotonic += seconds
        self.partition.deadlines.advance(self.monotonic)
        self.partition.open(self.now)
        self.partition.expire()
        self._record()

    def _record(self) -> None:
        stored, folded, cursor = self.partition.close()
        recorded = [each for each, _ in folded]
        fate = self._recording(recorded) if recorded else "record"
        if fate == "lose":
            self.partition.rollback()
            self.start()
            raise Crashed
        self.log += [(root(str(record.originator_id)).encode(), record.state) for record in stored]
        self.partition.commit(cursor)
        self.views.apply(0, {}, folded)
        for each in recorded:
            self._told(each)
        if fate == "die":
            self.start()
            raise Crashed

    def drive(self, view: cluster.Cluster, post: Post) -> None:
        """Carry out what sagas want of others than nodes; `view` is the cluster as it is known here, new or old."""
        for found in self.sagas:
            for action in actions_of(found):
                if isinstance(action, Wait) and action.until is not None and action.until <= self.now:
                    post("driver", found.id, ExpireStep(step=_step(found), attempt=found.attempt, kind="wait"), None)
            self._hear_or_ask(found, view, post)
        for name, keyspace in self.views.keyspaces.items():
            for _, cleanup in sorted(keyspace.cleanups.items()):
                if cleanup.due and cleanup.node in view.removed:
                    post("driver", f"keyspace/{name}", AbandonCleanup(shard=cleanup.shard, node=cleanup.node), None)
        for id_ in sorted((*view.held, *view.waiting)):
            if (known := self.views.sagas.get(id_)) is not None and known.ended:
                post("reconciler", cluster.STREAM, ReleaseSlots(saga=id_), None)

    def _hear_or_ask(self, found: Saga, view: cluster.Cluster, post: Post) -> None:
        asks = [action for action in actions_of(found) if isinstance(action, Ask)]
        for ask in asks:
            heard = ask.heard(view) if ask.heard is not None else None
            if heard is not None:
                return self._tell(found, heard, post)
        for ask in asks:
            if ask.command is not None and self.monotonic - self.asked.get(found.id, -9.0) >= ask_again_seconds:
                self.asked[found.id] = self.monotonic
                post(
                    "driver", cluster.STREAM, ask.command, lambda answer, ask=ask: self._hear(found, ask, answer, post)
                )
        return None

    def _hear(self, found: Saga, ask: Ask, answer: Answer, post: Post) -> None:
        if answer.error is None and ask.heard is None:
            self._tell(found, Heard(result={}), post)
        elif answer.error is not None and ask.decisive:
            self._tell(found, Heard(error=str(answer.error["name"])), post)

    def _tell(self, found: Saga, heard: Heard, post: Post) -> None:
        outcome: Any = "done" if heard.error is None else "failed"
        result = dict(heard.result or {})
        step, attempt = _step(found), found.attempt
        report = ReportStep(step=step, attempt=attempt, outcome=outcome, result=result, error=heard.error, final=True)
        post("driver", found.id, report, None)


def _step(found: saga.Saga) -> str:
    assert found.step is not None
    return found.step
