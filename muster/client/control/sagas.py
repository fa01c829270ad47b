"""Sagas of all kinds, as `Client.sagas`: where each stands, and the verbs of an operator.

    async with Client(actor="ops") as client:
        for saga in (await client.sagas.newest(state="blocked")).items:
            print(saga.id, saga.step, saga.error, saga.allowed)
        await client.sagas.tell("keyspace/users/migration/17", "retry", reason="the disk was replaced")

A saga's id is its stream. Moves of shards are sagas too; `Client.shards` says more about those.
"""

from typing import Any, Final, Literal

from muster.client.rows import page_of, row_of
from muster.client.transport import Consistency, Transport, path_of
from muster.client.writing import write
from muster.wire.error import InvalidCommand
from muster.wire.read_model import Page
from muster.wire.registry.answers import WRITTEN, Written
from muster.wire.sagas import SAGAS, Saga
from muster.wire.stream import saga_parts

SagaState = Literal["running", "blocked", "paused", "ended"]
SagaVerb = Literal["pause", "resume", "retry", "skip", "abort", "force-complete"]
VERBS: Final[tuple[SagaVerb, ...]] = ("pause", "resume", "retry", "skip", "abort", "force-complete")


class SagaControl:
    """Reads sagas and tells them how to go on. Raises the refusals of `muster.wire.error`, as `Client`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def newest(
        self,
        *,
        saga: str | None = None,
        root: str | None = None,
        state: SagaState | None = None,
        limit: int | None = None,
        consistency: Consistency = "session",
    ) -> Page[Saga]:
        """The newest sagas that match: of this name (`migration`), of this root (`keyspace/users`), in this state."""
        # By the names of the list's filters, so that one left out is no filter.
        asked = {"saga": saga, "root": root, "state": state, "limit": limit}
        return await page_of(self._transport, SAGAS, asked, consistency)

    async def one(self, saga: str, *, consistency: Consistency = "session") -> Saga:
        """One saga with its steps, by its id. Raises InvalidCommand (no id of a saga), SagaNotFound, or MigrationNotFound."""
        return await row_of(self._transport, SAGAS, parts_of(saga), consistency)

    async def tell(
        self,
        saga: str,
        verb: SagaVerb,
        *,
        step: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Written:
        """Apply a verb to the saga; `skip` names the step. Raises VerbNotAllowed, which lists the allowed verbs."""
        # Without a step the controller leaves out the one under way, and a repeat of that would leave out the next one too.
        body: dict[str, Any] = {} if step is None else {"step": step}
        path = path_of("sagas", *parts_of(saga), verb)
        return await write(self._transport, WRITTEN, "POST", path, body, reason=reason, command_id=command_id)


def parts_of(saga: str) -> tuple[str, ...]:
    """The parts of a saga's id: root (one or two), name, number. Raises InvalidCommand."""
    parts = saga_parts(saga)
    if parts is None:
        raise InvalidCommand(f"{saga!r} is no saga; it looks like keyspace/users/migration/17", field="saga")
    return parts
