"""Tasks: what participants are wanted to do, by a saga's step or by the shard map itself.

    a saga's step                  <saga>/<step>/<attempt>
    open a shard that was assigned keyspace/<name>/shard/<number>/open/<epoch>
    drop a copy that has to go     <migration>/cleanup/<node>

Tasks are derived from states and never stored: a node that restarts sees what is wanted now. An id is the same after every
crash and on every controller, so a report of a task can be sent to any of them, and again.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from domain.saga import Saga
from domain.shards.shard import Cleanup, Keyspace
from muster.wire.stream import KEYSPACE, NAME, PATTERNS, SAGA, keyspace_stream, root_of
from muster.wire.value import value
from sagas.catalogue import DEFINITIONS
from sagas.engine.definition import Action, Definitions, Delegate
from sagas.engine.wanted import pending

# Ids come from outside, so the digits are bounded before they become numbers.
_STEP: Final = re.compile(f"({PATTERNS[SAGA]})/({NAME})/([1-9][0-9]{{0,8}})")
_OPEN: Final = re.compile(f"({PATTERNS[KEYSPACE]})/shard/([0-9]{{1,5}})/open/([0-9]{{1,18}})")
_CLEANUP: Final = re.compile(f"({PATTERNS[SAGA]})/cleanup/({NAME})")


@value
class StepTask:
    """One attempt at a saga's step."""

    saga: str
    step: str
    attempt: int

    @property
    def stream(self) -> str:
        """The stream that a report is for."""
        return self.saga

    def __str__(self) -> str:
        return f"{self.saga}/{self.step}/{self.attempt}"


@value
class OpenTask:
    """Open an assigned shard of the keyspace's stream, with this epoch."""

    stream: str
    shard: int
    epoch: int

    def __str__(self) -> str:
        return f"{self.stream}/shard/{self.shard}/open/{self.epoch}"


@value
class CleanupTask:
    """Drop the copy that a migration has left, or may have left, on the node."""

    migration: str
    node: str

    @property
    def stream(self) -> str:
        """The stream that a report is for."""
        return root_of(self.migration)

    def __str__(self) -> str:
        return f"{self.migration}/cleanup/{self.node}"


TaskId = StepTask | OpenTask | CleanupTask


def parse_task_id(text: str) -> TaskId | None:
    """The id that `str` wrote; None: it is no task's."""
    # First, because a node's name may be a number: the text would then fit an attempt at a step `cleanup` as well.
    if found := _CLEANUP.fullmatch(text):
        return CleanupTask(found[1], found[2])
    if found := _OPEN.fullmatch(text):
        return OpenTask(found[1], int(found[2]), int(found[3]))
    if found := _STEP.fullmatch(text):
        return StepTask(found[1], found[2], int(found[3]))
    return None


@value
class TaskRow:
    """What a node is wanted to do. `saga`, `step` and `attempt` are empty for what the shard map wants by itself."""

    id: str
    node: str
    kind: str
    keyspace: str
    shard: int
    params: dict[str, Any]
    since: datetime
    saga: str | None = None
    step: str | None = None
    attempt: int = 0


def actions_of(saga: Saga, definitions: Definitions = DEFINITIONS) -> tuple[Action, ...]:
    """The saga's next actions, for any recipient."""
    if saga.ended:
        return ()
    return pending(saga, definitions[saga.definition, saga.definition_version])


def tasks_of_saga(saga: Saga, since: datetime, definitions: Definitions = DEFINITIONS) -> Iterator[TaskRow]:
    """What the saga wants of data nodes now, about a shard. `since`: when its step began."""
    for action in actions_of(saga, definitions):
        # Sagas of other roots have other participants, and their tasks are about no shard: data nodes could not carry them out.
        if isinstance(action, Delegate) and "shard" in action.params:
            yield _of_step(saga, action, since)


def tasks_of_shard(keyspace: str, state: Keyspace, number: int, since: datetime) -> Iterator[TaskRow]:
    """What the shard map wants of nodes for this shard: that its owner opens it, and that copies go whose clean-up is due."""
    shard = state.shard(number)
    if shard.owner is not None and shard.status == "inactive":
        id_ = str(OpenTask(keyspace_stream(keyspace), number, shard.epoch))
        params = {"epoch": shard.epoch, "limits": _limits(state)}
        yield TaskRow(id_, shard.owner, "open", keyspace, number, params, since)
    for cleanup in state.cleanups.values():
        if cleanup.due and cleanup.shard == number:
            yield _of_cleanup(keyspace, cleanup, since)


def _of_step(saga: Saga, task: Delegate, since: datetime) -> TaskRow:
    params = {key: found for key, found in task.params.items() if key not in ("keyspace", "shard")}
    assert saga.step is not None, f"{saga.id} has ended and wants nothing"
    id_ = str(StepTask(saga.id, saga.step, saga.attempt))
    keyspace, shard = task.params["keyspace"], task.params["shard"]
    return TaskRow(id_, task.node, task.kind, keyspace, shard, params, since, saga.id, saga.step, saga.attempt)


def _of_cleanup(keyspace: str, cleanup: Cleanup, since: datetime) -> TaskRow:
    params = {"epoch": cleanup.epoch, "migration": cleanup.migration}
    id_ = str(CleanupTask(cleanup.migration, cleanup.node))
    return TaskRow(id_, cleanup.node, "drop", keyspace, cleanup.shard, params, since)


def _limits(state: Keyspace) -> dict[str, int]:
    return {"value_bytes_max": state.limits.value_bytes_max, "shard_bytes_max": state.limits.shard_bytes_max}
