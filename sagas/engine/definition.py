"""What a saga's author writes: steps as data, and pure functions that say what each of them wants.

A step wants one or more of four actions, and is over when the first that decides it is answered:

    Apply     a command to the root stream's own aggregate, decided at once, in the same batch as the saga's event
    Delegate  something that a participant does; it watches its tasks and answers with commands
    Ask       a command to any other stream, whose effect is seen in that stream's state; of the root's stream only the state
    Wait      time to pass, or an operator

`Definition` refuses what would break the promise of the pivot: before it only steps that can be undone, or that leave nothing
to undo and say why; after it none that is undone. The engine runs the undoing in reverse order, by the same rules as the rest.
It also says which command starts a saga, on which facts, and under which number of its root.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from domain.saga import VERBS, Saga
from domain.stage import StepAnswer
from muster.wire.command import Command


@dataclass(frozen=True, slots=True)
class Apply:
    """Decide this command at the root's aggregate now. A refusal fails the step for good."""

    command: Command


@dataclass(frozen=True, slots=True)
class Delegate:
    """Have a participant do something. `assist`: it is wanted, but does not decide the step."""

    node: str
    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)
    assist: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """What another stream's state, or the answers of several participants, say about a step: done with this result, or failed for
    good with this error.
    """

    result: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Send the command (None: only listen) to the stream, until `heard` finds its effect in the stream's state; without
    `heard` the command's answer, accepted or already so, is the effect.

    The root's own state is heard within the decision that changes it (`Decider.listener`), other streams' states by the driver.
    `heard` may conclude from what it finds only, never from what is missing: the state that it sees may be an old one.
    `decisive`: a refusal of the command fails the step; else it is tried again. `waits` says in a few words, from the stream's
    state, what is waited for there.
    """

    stream: str
    command: Command | None = None
    heard: Callable[[Any], Heard | None] | None = None
    decisive: bool = False
    waits: Callable[[Any], str] | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for some seconds or until an instant; with neither, until an operator resumes the saga or skips the step."""

    why: str
    seconds: float | None = None
    until: datetime | None = None


Action = Apply | Delegate | Ask | Wait

Answers = Mapping[str, StepAnswer]
"""What participants have answered to a step that asks several, by their names."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `act` gives what it wants, as a function of the saga; `check` a reason to take no participant's result.

    An attempt that takes `timeout_seconds` (None: as long as it takes) fails; a failed one is repeated after a pause that
    doubles from `backoff_seconds` to `backoff_seconds_max`, up to `attempts_max` times in all; then the saga turns back
    (before the pivot), or is blocked until an operator helps. After `stalled_seconds` the saga is said to be stalled.
    `undo` are the steps that take its effect back, in order; `harmless` says why there is nothing to take back.

    A step that delegates to several participants, and need not hear them all, has `enough`: from the saga and the answers that
    are there, by participant, it says what the step has come to (None: nothing yet). Each answer is recorded and final: it is
    kept over the attempts of the step, and whoever has given one is asked no more. A failure that is not for good fails the
    attempt, as with one participant.
    """

    name: str
    act: Callable[[Saga], tuple[Action, ...]]
    undo: tuple["Step", ...] = ()
    harmless: str = ""
    pivot: bool = False
    skippable: bool = False
    pausable: bool = True
    timeout_seconds: float | None = 30.0
    attempts_max: int = 5
    backoff_seconds: float = 0.2
    backoff_seconds_max: float = 10.0
    stalled_seconds: float = 60.0
    check: Callable[[Saga, Mapping[str, Any]], str | None] = lambda _saga, _result: None
    enough: Callable[[Saga, Answers], Heard | None] | None = None


class Unsound(ValueError):
    """The definition would break a promise of the engine."""


def _nothing(_command: Any, _saga: str, _root: Any) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Definition:
    """A saga's steps in order. Raises Unsound.

    `window` names the first step of the stretch up to the pivot that must not take longer than `window_seconds`: then the saga
    turns back by itself. A function gives these seconds where the saga's facts say them. `saga` is its name in streams,
    `<root>/<saga>/<number>`, and in sentences; `root` the kind of its root's stream; `verbs` are those that an operator may ever
    use.

    `start` is the command to the root that starts a saga (None: none is started any more). `number` gives the new saga's number,
    counted by the root: the events of the saga's first step must change it, so that no two sagas have the same stream. `facts`
    gives the saga's data, from the command, the saga's stream and the root's state; None: what the command wants is already so.
    `begins` gives that command where a saga is due by the root's state alone: it is decided within the decision that has brought
    that state. What is refused then does not begin, and is nobody's error.
    """

    name: str
    version: int
    steps: tuple[Step, ...]
    window: str | None = None
    window_seconds: float | Callable[[Saga], float] = 10.0
    saga: str = "saga"
    root: str = ""
    start: type[Command] | None = None
    number: Callable[[Any], int] | None = None
    facts: Callable[[Any, str, Any], Mapping[str, Any] | None] = _nothing
    begins: Callable[..., Command | None] | None = None
    verbs: tuple[str, ...] = tuple(VERBS)

    def __post_init__(self) -> None:
        """Check the definition against the engine's promises."""
        names = [step.name for step in (*self.steps, *(undo for step in self.steps for undo in step.undo))]
        if len(set(names)) < len(names):
            raise Unsound(f"{self.name}: two steps have the same name")
        pivots = [index for index, step in enumerate(self.steps) if step.pivot]
        if len(pivots) != 1:
            raise Unsound(f"{self.name}: needs exactly one pivot, has {len(pivots)}")
        for step in self.steps[: pivots[0]]:
            if bool(step.undo) == bool(step.harmless):
                raise Unsound(
                    f"{self.name}: {step.name} stands before the pivot: it needs an undo, or why it needs none"
                )
        # The pivot is among these: what it does is not taken back.
        for step in self.steps[pivots[0] :]:
            if step.undo:
                raise Unsound(f"{self.name}: {step.name} cannot be undone: it does not stand before the pivot")
        if any(step.undo for step in self.compensations):
            raise Unsound(f"{self.name}: what undoes cannot be undone itself")
        # After a pivot that was left out, all steps would go on as if it had happened.
        if self.steps[pivots[0]].skippable:
            raise Unsound(f"{self.name}: the pivot cannot be left out")
        if self.window is not None and self.window not in [step.name for step in self.steps[: pivots[0]]]:
            raise Unsound(f"{self.name}: the window must begin at a step before the pivot")
        if self.start is not None and (self.number is None or not self.root):
            raise Unsound(f"{self.name}: a command that starts it needs a kind of root, and the new saga's number")
        if any(step.pausable and self.in_window(step.name) for step in self.steps):
            raise Unsound(f"{self.name}: a pause within the window would let it last for ever")

    @property
    def compensations(self) -> tuple[Step, ...]:
        """All steps that undo."""
        return tuple(undo for step in self.steps for undo in step.undo)

    @property
    def pivot(self) -> int:
        """The pivot's index."""
        return next(index for index, step in enumerate(self.steps) if step.pivot)

    def index(self, name: str) -> int:
        """Where the forward step of this name stands."""
        return next(index for index, step in enumerate(self.steps) if step.name == name)

    def is_ahead(self, name: str) -> bool:
        """Whether the pivot still lies ahead of the forward step of this name, or is it."""
        return self.index(name) <= self.pivot

    def step(self, name: str) -> Step:
        """The step of this name, forward or undoing."""
        return next(step for step in (*self.steps, *self.compensations) if step.name == name)

    def after(self, name: str) -> str | None:
        """The name of the forward step that follows this one."""
        following = self.index(name) + 1
        return self.steps[following].name if following < len(self.steps) else None

    def undoing(self, up_to: str, *, tried: bool) -> tuple[str, ...]:
        """What undoes the steps before `up_to`, and it too if it was `tried`: in reverse order of the steps."""
        reached = self.steps[: self.index(up_to) + tried]
        return tuple(undo.name for step in reversed(reached) for undo in step.undo)

    def seconds_of_window(self, saga: Saga) -> float:
        """How long the stretch may take, for this saga."""
        return self.window_seconds(saga) if callable(self.window_seconds) else self.window_seconds

    def in_window(self, name: str) -> bool:
        """Whether the forward step lies in the stretch that must be quick."""
        if self.window is None or all(step.name != name for step in self.steps):
            return False
        return self.index(self.window) <= self.index(name) <= self.pivot


Definitions = Mapping[tuple[str, int], Definition]
"""All definitions that may have sagas running, by name and version."""


def table(*definitions: Definition) -> Definitions:
    """The definitions by name and version."""
    return {(found.name, found.version): found for found in definitions}


def newest(definitions: Definitions, name: str) -> Definition:
    """The definition that new sagas get."""
    version: Final = max(number for found, number in definitions if found == name)
    return definitions[name, version]


def starts(definitions: Definitions) -> dict[type[Command], Definition]:
    """The definitions of new sagas, by the commands that start them."""
    found = [newest(definitions, name) for name in dict.fromkeys(name for name, _ in definitions)]
    return {definition.start: definition for definition in found if definition.start is not None}
