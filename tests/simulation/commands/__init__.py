"""A seeded simulation of the commands topic: partitions, foreign producers, crashes, transactions, brokers that fill up.

Below `CommandsTopic` stands a Kafka that is drawn from the seed; all above it is real. `make sim SEED="commands 7"` plays a
history again. During it a command id is applied at most once in its partition. At its end, once the world is calm and what had
no outcome was published again (never what was accepted): each command that was published to the partition of its stream has an
outcome, and a single effect if that says so; each one elsewhere has the outcome `WrongPartition` and no event; what was taken
back, and what is no command, has no effect; nothing acknowledged is missing; no stream stands in two partitions; `verify` is
content.
"""

import asyncio
from collections import Counter
from hashlib import sha256
from random import Random
from typing import Any, Final

from domain.catalogue import Answer
from domain.message import Recorded
from infra.log.chain import Chain
from infra.log.codec import CloudEventMapper
from infra.log.port import START
from muster.wire.error import MusterError, NotReady
from muster.wire.route import partition_of
from tests.machine import facts
from tests.simulation.broker import Broker
from tests.simulation.commands.controller import TopicController
from tests.simulation.commands.foreign import Foreign, Published
from tests.simulation.commands.topic import Topics
from tests.simulation.controller import Store
from tests.simulation.loop import VirtualLoop
from workers.audit.verify import walk
from workers.machine.partition import Partition

STEPS: Final = 600
PARTITIONS: Final = 3
KINDS: Final = {
    "publish": 40,
    "garbage": 2,
    "commit": 3,
    "abort": 2,
    "ask": 8,
    "pass": 30,
    "want": 2,
    "crash": 1,
    "stop": 0.5,
    "snapshot": 2,
    "broker dies": 0.5,
    "disk fills": 0.7,
}
ORDERLY_KINDS: Final = {kind: KINDS[kind] for kind in ("publish", "garbage", "commit", "abort", "ask", "pass")} | {
    "stop": 3
}
"""Of every fourth history: controllers only stop and start again, on brokers that behave. Then no outcome is missing at all."""


class Reader:
    """Sees a partition as anybody would, and keeps its history and what it folds to."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.chain = Chain(broker.number, START)
        self.partition = Partition(broker.number, CloudEventMapper(), partitions=PARTITIONS, ids_max=10_000)
        self.applied: dict[str, list[Recorded]] = {}

    def read(self) -> None:
        """Go on to the log's end."""
        for batch in self.chain.follow(self.broker.records(self.chain.cursor.position + 1)):
            here: dict[str, list[Recorded]] = {}
            for recorded, _ in self.partition.fold(batch):
                here.setdefault(recorded.command_id, []).append(recorded)
            twice = here.keys() & self.applied.keys()
            assert not twice, f"{twice} were applied twice in partition {self.broker.number}"
            self.applied |= here


class Commands:
    """One history. `run` plays it and returns its hash; `counts` says what happened in it."""

    def __init__(self, seed: int) -> None:
        self.orderly = seed % 4 == 0
        self.kinds = ORDERLY_KINDS if self.orderly else KINDS
        self.chance = Random(seed)
        self.loop = VirtualLoop()
        self.counts: Counter[str] = Counter()
        self.brokers = [Broker(self.chance, self.loop.time, number) for number in range(PARTITIONS)]
        for broker in self.brokers:
            broker.reliable = self.orderly
        self.topics = Topics(self.brokers, self.chance)
        self.foreign = Foreign(self.topics, self.chance, self.counts)
        self.readers = [Reader(broker) for broker in self.brokers]
        self.controllers = [
            [TopicController(name, broker, store, self.chance, self.topics) for name in ("a", "b")]
            for broker in self.brokers
            for store in [Store(lambda broker=broker: broker.full)]  # type: ignore[misc]
        ]
        self.acknowledged: list[Answer] = []
        self.not_taken: set[str] = set()

    def run(self, steps: int = STEPS) -> str:
        """Play the history; its hash over all logs and outcomes. Raises AssertionError where an invariant breaks."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._run(steps))
        digest = sha256(repr(self.topics.outcomes).encode())
        for broker in self.brokers:
            for _, key, value in broker.records():
                digest.update(key + value)
        return digest.hexdigest()[:16]

    async def _run(self, steps: int) -> None:
        for here in self.controllers:
            for controller in here:
                await controller.start(from_snapshot=False)
            here[0].want(wanted=True)
        for _ in range(steps):
            await self._step()
            self._check()
        await self._calm_down()
        await self._judge()
        for here in self.controllers:
            for controller in here:
                await controller.crash()

    async def _step(self) -> None:
        here = self.chance.choice(self.controllers)
        controller = self.chance.choice(here)
        broker = self.brokers[controller.number]
        [kind] = self.chance.choices(list(self.kinds), list(self.kinds.values()))
        self.counts[kind] += 1
        match kind:
            case "publish":
                self.foreign.publishes()
            case "garbage":
                self.foreign.garbage()
            case "commit" | "abort":
                self.foreign.ends(well=kind == "commit")
            case "ask":
                self._ask(controller)
            case "pass":
                await asyncio.sleep(self.chance.uniform(0, 0.3))
            case "want":
                for other in here:
                    other.want(wanted=other is controller)
            case "snapshot":
                await self._snapshot(controller)
            case "broker dies":
                broker.dies(self.chance.uniform(0.1, 8.0))
            case "disk fills":
                broker.fills(self.chance.uniform(0.1, 8.0))
            case "crash" | "stop":
                await (controller.crash() if kind == "crash" else controller.stop())
                await controller.start(from_snapshot=self.chance.random() < 0.7)

    async def _snapshot(self, controller: TopicController) -> None:
        try:
            await controller.snapshotter.take()
        except NotReady:
            self.counts["no snapshot"] += 1

    def _ask(self, controller: TopicController) -> None:
        """Somebody asks over HTTP meanwhile, and is right about the partition."""
        envelope = self.foreign.asked()
        if partition_of(envelope.stream, PARTITIONS) != controller.number:
            return
        try:
            controller.writer.submit(envelope).add_done_callback(self._answered)
        except MusterError:
            self.counts["not taken"] += 1

    def _answered(self, future: "asyncio.Future[Answer]") -> None:
        if future.exception() is None and future.result().status == "accepted":
            self.acknowledged.append(future.result())

    def _check(self) -> None:
        for reader, here in zip(self.readers, self.controllers, strict=True):
            reader.read()
            for controller in here:
                controller.check()

    async def _calm_down(self) -> None:
        """Nothing goes wrong any more, one writes each partition, and what has no outcome is published again."""
        for broker, here in zip(self.brokers, self.controllers, strict=True):
            broker.calm = True
            for controller in here:
                controller.want(wanted=controller is here[0])
        self.foreign.finish()
        await asyncio.sleep(20)
        self._check()
        told = self._told()
        untold = [
            (partition, id_)
            for partition, id_ in self.foreign.published
            if id_ in self.readers[partition].applied and (partition, id_) not in told
        ]
        assert not untold, f"{untold} were accepted, and nobody has said so"
        self.counts["asked again"] = self.foreign.repeat(told.keys())
        assert not (self.orderly and self.counts["asked again"]), (
            "a controller that stops tells all that it has decided"
        )
        for _ in range(3):
            self.foreign.garbage()
        await asyncio.sleep(20)
        self._check()

    def _told(self) -> dict[tuple[int, str], list[dict[str, Any]]]:
        """All outcomes, by partition and id."""
        told: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for partition, outcomes in enumerate(self.topics.outcomes):
            for outcome in outcomes:
                told.setdefault((partition, outcome["id"]), []).append(outcome)
        return told

    async def _judge(self) -> None:
        told = self._told()
        for place, published in self.foreign.published.items():
            self._judge_one(place, published, told.pop(place, []))
        for (partition, id_), outcomes in told.items():
            self._judge_other(partition, id_, outcomes)
        for answer in self.acknowledged:
            events = self.readers[answer.partition].applied.get(answer.id, [])
            assert events, f"{answer} was acknowledged, and is not in the log"
            assert events[-1].position == answer.position, f"{answer}, but {events[-1]}"
        for reader, here in zip(self.readers, self.controllers, strict=True):
            assert facts(here[0].partition) == facts(reader.partition), f"{here[0].name} knows something else"
            segment = await walk(here[0].writer.log, CloudEventMapper(), fold=True, partitions=PARTITIONS)
            assert segment.breach is None, segment.breach
            assert segment.end == here[0].partition.cursor, "it ends before the log does"
        streams = Counter(stream for reader in self.readers for stream in reader.partition.streams)
        assert set(streams.values()) <= {1}, f"{streams} stand in several partitions"

    def _judge_one(self, place: tuple[int, str], published: Published, outcomes: list[dict[str, Any]]) -> None:
        """What was published under one id to one partition, against what was told of it and what came of it."""
        partition, id_ = place
        events = self.readers[partition].applied.get(id_, [])
        due = partition_of(published.sent[0][0].stream, PARTITIONS)
        if not published.counts:
            self.counts["taken back"] += 1
            assert not outcomes, f"{id_} was taken back, and has {outcomes}"
            return
        assert outcomes, f"{id_} has no outcome in partition {partition}"
        if due != partition:
            self.counts["wrong partition"] += 1
            wrong = [told for told in outcomes if _why(told) != ("WrongPartition", due)]
            assert not wrong, f"{id_} belongs to {due}, and partition {partition} told {wrong}"
            assert not events, f"{id_} belongs to {due}, and {events} stand in {partition}"
            return
        accepted = {(told["position"], told["version"]) for told in outcomes if told["status"] == "accepted"}
        self.counts["accepted" if accepted else "without effect"] += 1
        self.counts["told twice"] += len(outcomes) > len(published.sent)
        assert accepted == {(told.position, told.version) for told in events[-1:]}, f"{outcomes}, but {events}"

    def _judge_other(self, partition: int, id_: str, outcomes: list[dict[str, Any]]) -> None:
        """What was told of something that nobody published as a command: garbage, or what was asked over HTTP."""
        if id_ in self.readers[partition].applied:
            assert all(told["status"] == "accepted" for told in outcomes), outcomes
            return
        self.counts["garbage told"] += 1
        assert {_why(told)[0] for told in outcomes} <= {"InvalidCommand", "InvalidInstance"}, outcomes


def _why(told: dict[str, Any]) -> tuple[str, int | None]:
    error = told["error"] or {"name": told["status"]}
    return error["name"], error.get("partition")
