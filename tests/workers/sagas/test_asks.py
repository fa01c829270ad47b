"""The driver asks any stream: a saga over one service asks another service, and hears the effect in that one's state."""

import asyncio
from typing import Any

from domain.catalogue import Answer
from domain.registry.service import RegisterInstance, SetMaintenance
from domain.saga import Saga
from muster.wire.command import Command, Envelope
from muster.wire.registry.spec import Spec
from sagas.engine.definition import Action, Apply, Ask, Definition, Heard, Step, table
from tests.machine import Machine
from tests.sagas.rolling_restart import RESTART, RestartInstance, _drain, _undrain
from workers.machine.aggregate import Aggregates
from workers.machine.group import Group
from workers.sagas.driver import SagaDriver
from workers.views.shards import ShardViews
from workers.views.views import Change

ORDERS, GATEWAY = "service/orders", "service/gateway"


def _heard(gateway: Any) -> Heard | None:
    found = gateway.instances.get("g")
    return Heard(result={"seen": found.version}) if found is not None and found.maintenance else None


def _warn(_saga: Saga) -> tuple[Action, ...]:
    return (Ask(GATEWAY, SetMaintenance(instance="g"), _heard),)


def _listen(_saga: Saga) -> tuple[Action, ...]:
    return (Ask(GATEWAY, heard=_heard),)


def asking(act: Any) -> Definition:
    """A restart that only asks."""
    return Definition(
        RESTART.name,
        1,
        (
            Step("drain", _drain, undo=(Step("undrain", _undrain),)),
            Step("warn", act, harmless="the gateway is told again later"),
            Step("welcome", lambda saga: (Apply(_undrain(saga)[0].command),), pivot=True),  # type: ignore[union-attr]
        ),
        saga="restart",
        root="service",
        start=RestartInstance,
        number=RESTART.number,
        facts=RESTART.facts,
    )


class Driven:
    """A machine with two services, and the driver of its sagas."""

    def __init__(self, definition: Definition) -> None:
        self.machine = Machine(Aggregates(table(definition)))
        self.asked: list[Envelope] = []
        for number, stream in enumerate((ORDERS, GATEWAY)):
            spec = Spec(address="10.0.0.7", port=8080, metadata={"release": "1"})
            instance = "a" if stream == ORDERS else "g"
            self.machine.answer(Envelope(f"r{number}", stream, RegisterInstance(instance=instance, spec=spec)))
        self.driver = SagaDriver(
            self.observe, self.submit, self.machine.partition.state, ShardViews(), definitions=table(definition)
        )
        self.driver.began(self.machine.partition.committed())

    def observe(self, stream: str, command: Command) -> None:
        self._commit(self.machine.observe(stream, command, self.machine.partition.last_at))

    async def submit(self, envelope: Envelope) -> Answer:
        self.asked.append(envelope)
        return self.give(envelope.id, envelope.stream, envelope.command)

    def give(self, id_: str, stream: str, command: Command) -> Answer:
        """The answer to a command, recorded; the driver hears what changed, as from its writer and its views."""
        group = self.machine.step(Envelope(id_, stream, command), now=self.machine.partition.last_at)
        self._commit(group)
        return group.answers[0]

    def _commit(self, group: Group) -> None:
        self.driver.changed(self.machine.partition.commit(group))
        changes = [Change(recorded, None, None) for recorded, _ in group.folded]
        self.driver.instances_changed(0, group.cursor, changes)

    @property
    def saga(self) -> Saga:
        [found] = [state for state in self.machine.partition.streams.values() if isinstance(state, Saga)]
        return found

    async def until_ended(self) -> None:
        running = asyncio.create_task(self.driver.run())
        try:
            async with asyncio.timeout(5):
                while not self.saga.ended:  # noqa: ASYNC110 a recorded event sets no event of asyncio
                    await asyncio.sleep(0)
        finally:
            running.cancel()


async def test_a_command_to_another_service_is_sent_once_and_its_effect_is_heard() -> None:
    driven = Driven(asking(_warn))
    driven.give("start", ORDERS, RestartInstance(instance="a", host="h", release="2"))
    await driven.until_ended()
    assert [(each.stream, each.command.type) for each in driven.asked] == [(GATEWAY, SetMaintenance.type)]
    assert driven.asked[0].correlation_id == driven.saga.id
    assert (driven.saga.phase, driven.saga.results["warn"]) == ("completed", {"seen": 1})


async def test_what_somebody_else_does_there_is_heard_too() -> None:
    driven = Driven(asking(_listen))
    driven.give("start", ORDERS, RestartInstance(instance="a", host="h", release="2"))
    ending = asyncio.create_task(driven.until_ended())
    while driven.driver.asks != {GATEWAY}:  # noqa: ASYNC110 the driver's first look sets no event
        await asyncio.sleep(0)
    assert driven.saga.step == "warn"
    driven.give("other", GATEWAY, SetMaintenance(instance="g"))
    await ending
    assert driven.asked == []
    assert driven.saga.results["warn"] == {"seen": 1}
