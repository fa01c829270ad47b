"""Given these events, when this command comes, then these events follow: deciders as sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pytest

from domain.message import Event
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
        after = _after(self.decider, events, self.state)
        assert self.decider.decide(self.command, after) == [], "a command repeated after its own events yields nothing"
        return after

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
        """Let the command meet the state."""
        return When(self.state, command, self.decider)


def given(*events: Event, decider: Any = service) -> Given:
    """The decider's state after the events; no events: nothing has happened yet."""
    return Given(_after(decider, events, decider.INITIAL), decider)


def _after(decider: Any, events: Sequence[Event], state: Any) -> Any:
    """The state behind the events. A service's instances know their place in history, so theirs are recorded ones."""
    return reduce(evolved if decider is service else decider.evolve, events, state)
