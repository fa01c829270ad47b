"""Many moves of many shards at once, and anything at any time: one history per seed."""

from collections import Counter
from dataclasses import replace
from random import Random

from domain.catalogue import Answer
from domain.message import Recorded
from domain.saga import AbortSaga, ForceComplete, PauseSaga, ResumeSaga, RetryStep, Saga, SagaStarted, SkipStep
from domain.shards.cluster import Cluster
from domain.shards.node import CordonNode, DrainNode, SetMoveLimits, UncordonNode, UndrainNode
from sagas.catalogue import DEFINITIONS
from sagas.engine.verbs import allowed
from sagas.tasks import TaskRow
from tests.simulation.moves import Fault, Message, Moves

SHARDS, NODES, turns = 5, 4, 900


class Weather(Fault):
    """Messages get lost, come late or twice; batches get lost with their controller; nodes die over their work."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.calm = True
        self.counts: Counter[str] = Counter()

    def _strikes(self, what: str, share: float) -> bool:
        struck = not self.calm and self.chance.random() < share
        self.counts[what] += struck
        return struck

    def posted(self, world: Moves, message: Message) -> bool:
        if self._strikes("lost", 0.04):
            return False
        if self._strikes("late", 0.04):
            message.due += self.chance.choice([0.5, 3.0, 12.0, 40.0])
        if self._strikes("twice", 0.04):
            later = message.due + self.chance.choice([0.0, 3.0, 40.0])
            world.messages.append(replace(message, due=later, told=None))
        return True

    def recording(self, recorded: list[Recorded]) -> str:
        if self._strikes("crash before", 0.005):
            return "lose"
        return "die" if self._strikes("crash after the record", 0.005) else "record"

    def works_on(self, world: Moves, node: str, task: TaskRow) -> bool:
        if self._strikes("node crash before", 0.005):
            world.nodes[node].crash(self.chance.choice([0.5, 3.0, 9.0]))
            return False
        return not self._strikes("node idles", 0.1)

    def worked_on(self, world: Moves, node: str, task: TaskRow) -> bool:
        if self._strikes("node crash after the effect", 0.02):
            world.nodes[node].crash(self.chance.choice([0.5, 3.0, 9.0]))
            return False
        return True


class Chaos:
    """`run` plays the history to its end. Raises AssertionError, with the seed, where an invariant breaks."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.weather = Weather(seed)
        self.chance = self.weather.chance
        self.world = Moves(seed, self.weather, shards=SHARDS, nodes=NODES)
        # Dice of their own: what the loads are changes nothing of what else goes wrong.
        self._loads = Random(f"loads {seed}")

    @property
    def counts(self) -> Counter[str]:
        """What has happened."""
        events = [recorded.event for recorded in self.world.history]
        weighed = sum(isinstance(event, SagaStarted) and "weighed" in event.data for event in events)
        return self.weather.counts + Counter(type(event).__name__ for event in events) + Counter(weighed=weighed)

    def run(self, moments: int = turns) -> str:
        """Play; a hash of the history."""
        try:
            self.weather.calm = False
            for _ in range(moments):
                self._disturb()
                self._tell_loads()
                self.world.turn()
            self.weather.calm = True
            for node in self.world.nodes.values():
                node.cut_off = False
            self.world.settle()
        except AssertionError as broken:
            raise AssertionError(f"make sim SEED='moves {self.seed}': {broken}") from broken
        return self.world.controller.partition.cursor.head.hex()[:16]

    def _tell_loads(self) -> None:
        """Now and then shards are asked for something else, and of some of them nobody knows it."""
        if self._loads.random() < 0.1:
            known = [shard for shard in range(SHARDS) if self._loads.random() < 0.95]
            self.world.controller.weights = {("users", shard): self._loads.choice([0.0, 1.5, 900.0]) for shard in known}

    def _disturb(self) -> None:
        world, chance = self.world, self.chance
        if chance.random() > 0.25:
            return
        node = world.nodes[f"n{chance.randint(1, NODES)}"]
        match chance.choices(["move", "verb", "cut", "join", "stop", "cluster"], [8, 5, 1, 3, 1, 1])[0]:
            case "move":
                how = {"hold": chance.random() < 0.2, "soak_seconds": chance.choice([0.0, 0.5, 3.0])}
                world.move(chance.randrange(SHARDS), node.name, **how)
            case "verb" if world.controller.sagas:
                self._verb(chance.choice(world.controller.sagas))
            case "cut":
                node.cut_off = True
            case "join":
                node.cut_off = False
            case "stop" if node.up:
                node.crash(chance.choice([0.5, 4.0, 9.0]))
            case "cluster":
                self._reorder(node.name)

    def _verb(self, saga: Saga) -> Answer | None:
        verbs = allowed(saga, DEFINITIONS[saga.definition, saga.definition_version])
        # To skip or to force is a promise that what is left out was done otherwise; an operator in his senses waits.
        said = [
            verb for verb in verbs if verb not in ("skip", "force-complete") or saga.step in ("gate", "discard", "soak")
        ]
        if "abort" in said and self.chance.random() < 0.7:
            said.remove("abort")
        if not said or saga.step is None:
            return None
        commands = {
            "pause": PauseSaga(),
            "resume": ResumeSaga(),
            "retry": RetryStep(),
            "skip": SkipStep(step=saga.step),
            "abort": AbortSaga(),
            "force-complete": ForceComplete(),
        }
        return self.world.ask(saga.id, commands[self.chance.choice(said)])

    def _reorder(self, node: str) -> None:
        cluster: Cluster = self.world.controller.views.cluster
        if node not in cluster.nodes:
            return
        limits = SetMoveLimits(node_moves_max=self.chance.randint(1, 3), cluster_moves_max=self.chance.randint(1, 4))
        said = [CordonNode(node=node), UncordonNode(node=node), DrainNode(node=node), UndrainNode(node=node), limits]
        self.world.ask("cluster", self.chance.choice(said))
