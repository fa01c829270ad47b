"""Where a saga is: the state that its history folds into, as a union of stages.

    Unstarted ▸ Forward ▸ Completed
                   └▸ Compensating ▸ Compensated

A saga that goes forward or back is at a step: it is tried, waits for another attempt, or is blocked.
"""

from dataclasses import field, replace
from typing import Annotated, Any, Final, Literal

from immutables import Map
from pydantic import Field

from domain.decider import AsPairs
from muster.wire.value import value

Facts = dict[str, Any]
"""What is fixed when a saga starts, and what its steps are answered: plain JSON, read by the definition alone."""

Phase = Literal["forward", "compensating", "completed", "compensated"]
Standing = Literal["running", "retrying", "blocked", "ended"]
"""The words for stages, and for how it stands with a step, as readers see them."""


@value
class Trying:
    """An attempt at the step is under way."""

    standing: Literal["running"] = "running"


@value
class Retrying:
    """The last attempt at the step has failed; another one begins after `seconds` (None: there is none any more)."""

    error: str
    seconds: float | None
    standing: Literal["retrying"] = "retrying"


@value
class Blocked:
    """The step has failed for good, and only an operator can help."""

    error: str
    standing: Literal["blocked"] = "blocked"


StepStanding = Annotated[Trying | Retrying | Blocked, Field(discriminator="standing")]
"""How it stands with the step under way."""


@value
class StepAnswer:
    """What one of several participants has answered to a step: its result, or why it cannot do its part (`error`). For good."""

    result: Facts
    error: str | None = None


@value
class StepUnderWay:
    """The step at which a saga is; `tried`: how many attempts have been made since the last verb. `answers`: of a step that asks
    several participants, those that are there, by participant; over all attempts.
    """

    name: str
    # Two numbers: after an operator's retry all attempts are allowed again, but the id of a task must never come
    # twice.
    attempt: int = 1
    tried: int = 1
    standing: StepStanding = field(default_factory=Trying)
    stalled: str | None = None
    answers: Annotated[Map[str, StepAnswer], AsPairs] = field(default_factory=Map)


@value
class Unstarted:
    """Nothing has happened yet."""

    phase: Literal["unstarted"] = "unstarted"


@value
class Forward:
    """On its way; `forced`: what can be left out of the rest is left out."""

    at: StepUnderWay
    forced: bool = False
    phase: Literal["forward"] = "forward"


@value
class Compensating:
    """On its way back, because of `cause`; `undo` are the steps that are left, the one under way first."""

    at: StepUnderWay
    undo: tuple[str, ...]
    cause: str
    phase: Literal["compensating"] = "compensating"


@value
class Completed:
    """All steps are done, or were left out."""

    phase: Literal["completed"] = "completed"


@value
class Compensated:
    """Everything has been taken back, because of `cause`."""

    cause: str
    phase: Literal["compensated"] = "compensated"


UnderWay = Forward | Compensating
Stage = Unstarted | UnderWay | Completed | Compensated


@value
class Saga:
    """A saga: what is fixed when it starts, `results` (the answers to its steps, by step name), and its stage. `paused` is no
    stage: an operator's pause lasts through all stages, until a resume.

    The properties serve readers that need one fact, such as the current step, and not the stage as a whole.
    """

    id: str
    version: int
    definition: str
    definition_version: int
    data: Facts
    results: Annotated[Map[str, Facts], AsPairs]
    # By this word a stage is read back from a snapshot as the class that it was.
    stage: Annotated[Stage, Field(discriminator="phase")]
    paused: bool = False

    @property
    def at(self) -> StepUnderWay | None:
        """The step under way; None: it has ended, or has not started."""
        return self.stage.at if isinstance(self.stage, UnderWay) else None

    @property
    def step(self) -> str | None:
        """The name of the step under way."""
        return None if self.at is None else self.at.name

    @property
    def attempt(self) -> int:
        """The number of the attempt at the step under way."""
        return 0 if self.at is None else self.at.attempt

    @property
    def phase(self) -> str:
        """The direction in which it goes, or how it has ended."""
        return self.stage.phase

    @property
    def standing(self) -> str:
        """`running`, `retrying` or `blocked`, and `ended` where there is no step under way."""
        return "ended" if self.at is None else self.at.standing.standing

    @property
    def cause(self) -> str | None:
        """Why it turned back, if it did."""
        return self.stage.cause if isinstance(self.stage, Compensating | Compensated) else None

    @property
    def stalled(self) -> str | None:
        """Why the step under way is said to be stalled, if it is."""
        return None if self.at is None else self.at.stalled

    @property
    def ended(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.at is None

    @property
    def active(self) -> bool:
        """Whether its step is wanted now."""
        return self.at is not None and not self.paused and isinstance(self.at.standing, Trying)


INITIAL: Final = Saga("", 0, "", 0, {}, Map(), Unstarted())


def assert_at(at: StepUnderWay, step: str, attempt: int) -> None:
    """The history can only be of this attempt at this step."""
    assert (at.name, at.attempt) == (step, attempt), f"{step}/{attempt}, but the saga is at {at.name}/{at.attempt}"


def answered(at: StepUnderWay, node: str, answer: StepAnswer) -> StepUnderWay:
    """With another participant's answer."""
    assert node not in at.answers, f"{node} has answered {at.name} twice"
    return replace(at, answers=at.answers.set(node, answer))


def retried(at: StepUnderWay, attempt: int, *, by_hand: bool) -> StepUnderWay:
    """At another attempt. After a verb it has all its attempts again, and is not stalled any more."""
    assert at.attempt + 1 == attempt, f"attempt {attempt} of {at.name} after {at.attempt}"
    # The attempt's number goes on, since tasks are named by it. Only the count against the limit begins anew.
    if by_hand:
        # Whoever could not do its part may have been mended meanwhile, and is asked again.
        refused = [node for node, answer in at.answers.items() if answer.error is not None]
        answers = at.answers
        for node in refused:
            answers = answers.delete(node)
        return StepUnderWay(at.name, attempt, answers=answers)
    return StepUnderWay(at.name, attempt, at.tried + 1, stalled=at.stalled, answers=at.answers)
