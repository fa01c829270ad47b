"""Sagas as sentences: so far this has happened, now this command comes, and these events follow in one decision."""

from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest

from domain import saga as s
from domain.message import Event
from domain.saga import ExpireStep, ReportStep, Saga
from muster.wire.command import Command
from muster.wire.error import Refused
from muster.wire.stream import root_of
from sagas.engine import decide as engine
from sagas.engine import timers as saga_timers
from sagas.engine import wanted
from sagas.engine.course import Produced, Root
from sagas.engine.definition import Definitions
from sagas.engine.timers import SagaTimer
from sagas.engine.verbs import allowed
from tests.given import after
from workers.views.stored_state import dumped, loaded

STARTING = s.SagaStarted


def root(stream: str, state: Any, decider: Any) -> Root:
    """The root of a saga, by the functions of its module."""
    return Root(stream, state, decider.decide, decider.evolve)


@dataclass(frozen=True)
class Story:
    """A saga and its root, as their events so far have made them. `decider` is the root's module."""

    saga: Saga
    root: Any
    decider: Any
    definitions: Definitions
    told: tuple[Produced, ...] = ()

    @property
    def definition(self) -> Any:
        return self.definitions[self.saga.definition, self.saga.definition_version]

    @property
    def step(self) -> str | None:
        return self.saga.step

    def events(self, *, of_root: bool = False) -> list[Event]:
        """What the last decision told."""
        return [told.event for told in self.told if told.of_root == of_root]

    def after(self, told: list[Produced]) -> "Story":
        """The story with these events behind it; refolding and a snapshot give the same saga."""
        saga = after(s, self.saga, *[each.event for each in told if not each.of_root])
        state = after(self.decider, self.root, *[each.event for each in told if each.of_root])
        stream = saga.id or "keyspace/users/migration/1"
        assert loaded(stream, orjson.loads(orjson.dumps(dumped(stream, saga)))) == saga, "a snapshot holds it"
        return replace(self, saga=saga, root=state, told=tuple(told))

    def decided(self, command: Command) -> list[Produced]:
        """What the command makes of it; deciding twice gives the same."""
        first, second = (
            engine.decide(command, self.saga, root(root_of(self.saga.id), self.root, self.decider), self.definitions)
            for _ in range(2)
        )
        assert first == second, "deciding twice gives the same"
        return first

    def when(self, command: Command) -> "Story":
        """Let the command come. Repeated behind its own events it changes nothing, unless it tried something again."""
        told = self.decided(command)
        after = self.after(told)
        try:
            again = after.decided(command)
        except Refused:
            again = []
        if not any(isinstance(event, s.StepRetried) for event in after.events()):
            assert again == [], f"{command} repeated after its own events"
        return after

    def then(self, *events: Event) -> "Story":
        """The last decision told exactly these events, the root's among them, in this order."""
        assert [told.event for told in self.told] == list(events)
        return self

    def nothing(self, *commands: Command) -> "Story":
        """None of the commands changes anything."""
        for command in commands:
            assert self.decided(command) == [], f"{command} changes nothing"
        return self

    def refused(self, command: Command, refusal: type[Refused], **context: Any) -> "Story":
        """The saga says no, with exactly this class and these named facts."""
        with pytest.raises(Refused) as caught:
            self.decided(command)
        assert type(caught.value) is refusal
        assert context.items() <= caught.value.context.items()
        return self

    def done(self, node: str | None = None, **result: Any) -> "Story":
        """The participant (None: the cluster) has done what is wanted now."""
        return self.when(self.report("done", node, result=result))

    def fails(self, error: str = "broken", node: str | None = None, *, final: bool = False) -> "Story":
        """The participant has failed at it."""
        return self.when(self.report("failed", node, error=error, final=final))

    def report(self, outcome: str, node: str | None, **more: Any) -> ReportStep:
        """What the participant says about what is wanted now; no node named: any that is asked."""
        node = node or next((task.node for task in self.tasks), None)
        return ReportStep(step=self.saga.step, attempt=self.saga.attempt, node=node, outcome=outcome, **more)

    def runs_out(self, kind: str) -> "Story":
        """The timer of this kind runs out: it must be armed."""
        [timer] = [timer for timer in self.timers if timer.kind == kind]
        return self.when(saga_timers.expire(timer))

    def until(self, step: str, *do: Any) -> "Story":
        """Whatever has to be done (functions of the story), until the saga is at the step."""
        story = self
        for act in do:
            story = act(story)
        assert story.step == step
        return story

    @property
    def pending(self) -> tuple[Any, ...]:
        return wanted.pending(self.saga, self.definition)

    @property
    def tasks(self) -> list[Any]:
        """What is wanted of participants."""
        return [action for action in self.pending if hasattr(action, "node") and not action.assist]

    @property
    def timers(self) -> tuple[SagaTimer, ...]:
        return saga_timers.timers(self.saga, self.definition)

    @property
    def allowed(self) -> tuple[str, ...]:
        return allowed(self.saga, self.definition)


def expire(kind: str, step: str, attempt: int = 1) -> ExpireStep:
    """A timer's word, armed or not."""
    return ExpireStep(step=step, attempt=attempt, kind=kind)
