"""What a saga waits for now, and on whom: one sentence for an operator, from states alone."""

from collections.abc import Callable, Sequence
from typing import Any, assert_never

from domain.saga import Saga
from domain.shards.cluster import Cluster
from domain.stage import Blocked, Retrying, Trying
from muster.wire.stream import CLUSTER
from sagas.engine.definition import Action, Ask, Definition, Delegate, Wait
from sagas.engine.verbs import allowed
from sagas.engine.wanted import pending

States = Callable[[str], Any]
"""The state of any stream, as it is known here."""


def waits_for(
    saga: Saga, definition: Definition, states: States, *, waited_seconds: float = 0.0, paused_by: str | None = None
) -> str | None:
    """The sentence; None: the saga has ended.

    `waited_seconds` have passed since the attempt began or, between attempts, since the last one failed.
    """
    if saga.at is None:
        return None
    match saga.at.standing:
        # Before the pause: resuming a saga that is blocked as well would not help it.
        case Blocked(error):
            return f"an operator: blocked: {error}; allowed: {', '.join(allowed(saga, definition))}"
        case Retrying() | Trying() if saga.paused:
            return "an operator: paused" + (f" by {paused_by}" if paused_by else "")
        case Retrying(seconds=seconds):
            return f"the next attempt, in about {max(0.0, (seconds or 0.0) - waited_seconds):.1f} s"
        case Trying():
            return _work(saga, definition, pending(saga, definition), states, waited_seconds)
        case _:
            assert_never(saga.at.standing)


def _work(saga: Saga, definition: Definition, actions: Sequence[Action], states: States, waited_seconds: float) -> str:
    assert saga.step is not None, f"{saga.id} has ended and waits for nothing"
    step = saga.step
    several = definition.step(step).enough is not None
    # Before what else may decide the step: whose answer is missing is what somebody can do something about.
    if several and (answers := _several(saga, actions, states(CLUSTER))) is not None:
        return answers
    for action in actions:
        if isinstance(action, Wait):
            return _time(action, waited_seconds)
        if isinstance(action, Ask) and action.waits is not None:
            return action.waits(states(action.stream))
    return _participants(saga, actions, states(CLUSTER)) or f"{_asked(actions)} to answer to {_plain(step)}"


def _time(wait: Wait, waited_seconds: float) -> str:
    if wait.until is not None:
        return f"{wait.until.isoformat()}: {wait.why}"
    if wait.seconds is not None:
        return f"{max(0.0, wait.seconds - waited_seconds):.1f} s more to pass: {wait.why}"
    return f"an operator: {wait.why}"


def _asked(actions: Sequence[Action]) -> str:
    """The stream that has to answer."""
    stream = next((action.stream for action in actions if isinstance(action, Ask)), CLUSTER)
    return "the cluster" if stream == CLUSTER else stream


def _participants(saga: Saga, actions: Sequence[Action], cluster: Cluster) -> str | None:
    """The participants whose answers decide the step; or the first that cannot do its part, and why."""
    tasks = [action for action in actions if isinstance(action, Delegate) and not action.assist]
    for task in tasks:
        # A target that pulls needs the source too, so it may be the source that keeps it from answering.
        for node in (task.node, task.params.get("source")):
            if isinstance(node, str) and (why := _absence(node, cluster)):
                return f"{_role(saga, node)}{node}, {why}"
    return " and ".join(f"{task.node} to {_plain(task.kind)}" for task in tasks) or None


def _several(saga: Saga, actions: Sequence[Action], cluster: Cluster) -> str | None:
    """Whose answers are still missing to a step that asks several participants, and whose are there."""
    assert saga.at is not None, f"{saga.id} has ended and waits for nobody"
    tasks = [action for action in actions if isinstance(action, Delegate) and not action.assist]
    if not tasks:
        return None
    # None of them decides it alone, so nobody is named in place of the others: not even one that is away.
    missing = [f"{task.node}{_aside(_absence(task.node, cluster))} to {_plain(task.kind)}" for task in tasks]
    there = [
        f"{node} cannot: {answer.error}" if answer.error is not None else f"{node} has answered"
        for node, answer in sorted(saga.at.answers.items())
    ]
    return "; ".join([f"enough of: {', '.join(missing)}", *there])


def _aside(text: str | None) -> str:
    return "" if text is None else f" ({text})"


def _absence(node: str, cluster: Cluster) -> str | None:
    found = cluster.nodes.get(node)
    if found is not None:
        return None if found.alive else "whose lease is over"
    return "which has been removed" if node in cluster.removed else "which has not joined"


def _role(saga: Saga, node: str) -> str:
    return next((f"its {role} " for role in ("source", "target") if saga.data.get(role) == node), "")


def _plain(name: str) -> str:
    return name.replace("_", " ")
