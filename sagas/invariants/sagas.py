"""Books about sagas of all kinds: one step under way at a time, no way back after the pivot, undoing in reverse order."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from domain import saga as s
from domain.message import Event
from sagas.engine.definition import Definition, Definitions


@dataclass(slots=True)
class KnownSaga:
    """How far a saga has come. `turned`: it is on its way back; `passed`: it has passed its pivot."""

    name: str
    data: s.Facts
    definition: Definition | None
    step: str | None
    attempt: int = 1
    results: dict[str, s.Facts] = field(default_factory=dict)
    turned: bool = False
    passed: bool = False
    blocked: bool = False
    undo: tuple[str, ...] = ()
    # Whose answers to the step under way are there: whether they could do their part.
    answered: dict[str, bool] = field(default_factory=dict)


class SagaBooks:
    """`live` has the sagas that are under way by their streams, `over` the streams of those that have ended."""

    def __init__(self, definitions: Definitions) -> None:
        self.live: dict[str, KnownSaga] = {}
        self.over: set[str] = set()
        self._definitions = definitions

    def owed(self) -> list[str]:
        """Sagas that go on."""
        return [f"I6 {id_} is at {saga.step}" for id_, saga in self.live.items() if not saga.blocked]

    def take(self, stream: str, event: Event) -> Iterator[str]:
        """What the event breaks."""
        if isinstance(event, s.SagaStarted):
            if stream in self.live or stream in self.over:
                yield "I14 the saga started twice"
            # It may be one that this program does not know. Then order and pivot cannot be checked, but the rest can.
            definition = self._definitions.get((event.definition, event.version))
            self.live[stream] = KnownSaga(event.definition, event.data, definition, event.step)
            return
        saga = self.live.get(stream)
        if saga is None:
            yield f"I14 {event.type} of a saga that " + ("has ended" if stream in self.over else "never started")
            return
        yield from self._went_on(stream, saga, event)

    def _went_on(self, stream: str, saga: KnownSaga, event: Event) -> Iterator[str]:
        match event:
            case s.StepSucceeded() | s.StepSkipped():
                yield from _stepped(saga, event)
            case s.StepAnswered():
                yield from _answered(saga, event)
            case s.StepFailed() | s.StepStalled() | s.SagaBlocked():
                if (event.step, event.attempt) != (saga.step, saga.attempt):
                    yield f"I14 {event.step}/{event.attempt}, but the saga is at {saga.step}/{saga.attempt}"
                saga.blocked = saga.blocked or isinstance(event, s.SagaBlocked)
            case s.StepRetried():
                if (event.step, event.attempt) != (saga.step, saga.attempt + 1):
                    yield f"I14 {event.step}/{event.attempt} follows {saga.step}/{saga.attempt}"
                saga.attempt, saga.blocked = event.attempt, False
                if event.by_hand:
                    saga.answered = {node: True for node, done in saga.answered.items() if done}
            case s.CompensationStarted():
                yield from _turned(saga, event)
            case s.SagaUpgraded():
                saga.definition = self._definitions.get((saga.name, event.version))
            case s.SagaCompleted() | s.SagaCompensated():
                yield from _closed(saga, isinstance(event, s.SagaCompensated))
                del self.live[stream]
                self.over.add(stream)


def _stepped(saga: KnownSaga, event: s.StepSucceeded | s.StepSkipped) -> Iterator[str]:
    attempt = event.attempt if isinstance(event, s.StepSucceeded) else saga.attempt
    if (event.step, attempt) != (saga.step, saga.attempt):
        yield f"I14 {event.step}/{attempt} is done, but the saga is at {saga.step}/{saga.attempt}"
    if isinstance(event, s.StepSucceeded):
        saga.results[event.step] = event.result
    definition = saga.definition
    if saga.turned:
        if event.step != next(iter(saga.undo), None) or event.next != next(iter(saga.undo[1:]), None):
            yield f"I8 {event.step} is undone out of turn: {saga.undo}"
        saga.undo = saga.undo[1:]
    elif definition is not None:
        if event.next != definition.after(event.step):
            yield f"I7 {event.next} does not follow {event.step}"
        saga.passed = saga.passed or definition.step(event.step).pivot
    saga.step, saga.attempt, saga.blocked, saga.answered = event.next, 1, False, {}


def _answered(saga: KnownSaga, event: s.StepAnswered) -> Iterator[str]:
    if event.step != saga.step or event.attempt > saga.attempt:
        yield f"I14 {event.node} answers {event.step}/{event.attempt}, but the saga is at {saga.step}/{saga.attempt}"
    if event.node in saga.answered:
        yield f"I14 {event.node} answers {event.step} twice"
    saga.answered[event.node] = event.error is None


def _turned(saga: KnownSaga, event: s.CompensationStarted) -> Iterator[str]:
    if saga.passed:
        yield "I7 it turned back after its pivot"
    if saga.turned:
        yield "I7 it turned back twice"
    if saga.definition is not None:
        # The event does not say whether the last step was tried, so both scopes are sound.
        scopes = [saga.definition.undoing(event.step, tried=tried) for tried in (True, False)]
        if event.undo not in scopes:
            yield f"I8 {event.undo} does not undo what was done, in reverse order, up to {event.step}"
    saga.turned, saga.undo, saga.blocked = True, event.undo, False
    saga.step, saga.attempt, saga.answered = next(iter(event.undo), None), 1, {}


def _closed(saga: KnownSaga, compensated: bool) -> Iterator[str]:
    if saga.step is not None or saga.undo:
        yield f"I6 it has ended at {saga.step}, with {saga.undo} to be undone"
    if compensated != saga.turned:
        yield "I7 it has ended in another direction than it went"
