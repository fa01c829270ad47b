"""Given these events, when this command comes, then these events follow: deciders as sentences."""

from dataclasses import dataclass
from typing import Any

import pytest

from domain.message import Event, foreseen
from domain.registry import service
from muster.wire.command import Command
from muster.wire.error import Refused
from tests.sample import evolved


@dataclass(frozen=True)
class When:
    """A command that meets a state; `then`, `nothing` and `refused` say what must come of it."""

    state: Any
    command: Command
    decider: Any

    def then(self, *events: Event) -> Any:
        """Exactly these events; the command repeated after them yields nothing. The state after them."""
        assert self.decider.decide(self.command, self.state) == list(events)
        then = after(self.decider, self.state, *events)
        assert self.decider.decide(self.command, then) == [], "a command repeated after its own events yields nothing"
        return then

    def nothing(self) -> None:
        """Already so, or too late to matter."""
        assert self.decider.decide(self.command, self.state) == []

    def refused(self, refusal: type[Refused], **context: Any) -> None:
        """The domain says no, with exactly this class and these named facts."""
        with pytest.raises(Refused) as caught:
            self.decider.decide(self.command, self.state)
        assert type(caught.value) is refusal
        assert caught.value.context == context
        assert caught.value.detail


@dataclass(frozen=True)
class Given:
    """A state that the events have led to."""

    state: Any
    decider: Any

    def when(self, command: Command) -> When:
        """Let the command meet the state. A sign of life that is taken for one that changes nothing has to be one."""
        is_only_sign = self.decider.DECIDER.parts.signs.get(type(command))
        if is_only_sign is not None and is_only_sign(command, self.state):
            assert self.decider.decide(command, self.state) == []
        return When(self.state, command, self.decider)


def given(*events: Event, decider: Any = service) -> Given:
    """The decider's state after the events; no events: nothing has happened yet."""
    return Given(after(decider, decider.INITIAL, *events), decider)


def after(decider: Any, state: Any, *events: Event) -> Any:
    """The state after the events. A service's instances know their place in history, so theirs are recorded ones."""
    for event in events:
        state = evolved(state, event) if decider is service else _foreseen(decider, state, event)
    return state


def _foreseen(decider: Any, state: Any, event: Event) -> Any:
    return decider.evolve(state, foreseen("", state.version, event))
