"""Hypothesis looks for a sequence of verbs, faults and passing time that breaks an invariant of moves."""

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from domain.saga import AbortSaga, ForceComplete, PauseSaga, ReportStep, ResumeSaga, RetryStep, SkipStep
from domain.shards.node import CordonNode, UncordonNode
from sagas.catalogue import DEFINITIONS
from sagas.engine.verbs import allowed
from sagas.shard_migration import SHARD_MIGRATION
from tests.simulation.moves import Fault, Message, Moves

STEPS = [step.name for step in (*SHARD_MIGRATION.steps, *SHARD_MIGRATION.compensations)]
VERBS = {
    "pause": lambda step: PauseSaga(),
    "resume": lambda step: ResumeSaga(),
    "retry": lambda step: RetryStep(),
    "skip": lambda step: SkipStep(step=step),
    "abort": lambda step: AbortSaga(),
    "force-complete": lambda step: ForceComplete(),
}
names = st.sampled_from(["n1", "n2", "n3"])
shards = st.integers(0, 1)


class Network(Fault):
    """Does to the next message what it was told to."""

    def __init__(self) -> None:
        self.next: str | None = None
        self.fates: list[str] = []

    def posted(self, world: Moves, message: Message) -> bool:
        told, self.next = self.next, None
        match told:
            case "lose":
                return False
            case "delay":
                message.due += 15.0
            case "repeat":
                world.messages.append(replace(message, due=message.due + 6.0, told=None))
        return True

    def recording(self, recorded):
        return self.fates.pop() if self.fates else "record"


class MovesMachine(RuleBasedStateMachine):
    """Every rule disturbs; every turn and every event checks."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()
        self.world = Moves(1, self.network, shards=2, nodes=3)
        self.removed: set[str] = set()

    @rule(shard=shards, to=names, hold=st.booleans())
    def move(self, shard, to, hold):
        self.world.move(shard, to, hold=hold)

    @rule(turns=st.sampled_from([1, 2, 5, 30]))
    def pass_time(self, turns):
        for _ in range(turns):
            self.world.turn()

    @precondition(lambda self: self.world.controller.sagas)
    @rule(data=st.data(), verb=st.sampled_from(list(VERBS)))
    def say(self, data, verb):
        """The answer is what `allowed` says: a verb that is not allowed, or has had its effect, changes nothing."""
        saga = data.draw(st.sampled_from(self.world.controller.sagas))
        may = verb in allowed(saga, DEFINITIONS[saga.definition, saga.definition_version])
        assert saga.step is not None
        answer = self.world.ask(saga.id, VERBS[verb](saga.step))
        assert answer is None or may == (answer.status == "accepted"), (verb, saga, answer)

    @precondition(lambda self: self.world.controller.sagas)
    @rule(data=st.data(), step=st.sampled_from(STEPS), node=st.none() | names, done=st.booleans())
    def say_what_was_not_asked(self, data, step, node, done):
        saga = data.draw(st.sampled_from(self.world.controller.sagas))
        if step != saga.step:
            outcome = "done" if done else "failed"
            answer = self.world.ask(saga.id, ReportStep(step=step, attempt=1, node=node, outcome=outcome, final=True))
            assert answer is None or answer.status == "unchanged"

    @rule(node=names, seconds=st.sampled_from([0.5, 3.0, 9.0]))
    def crash(self, node, seconds):
        if node not in self.removed:
            self.world.nodes[node].crash(seconds)

    @rule(node=names, cut_off=st.booleans())
    def cut_off(self, node, cut_off):
        self.world.nodes[node].cut_off = cut_off

    @rule()
    def replace_the_controller(self):
        self.world.messages.clear()
        self.world.controller.start()

    @rule(fate=st.sampled_from(["lose", "die"]))
    def crash_over_the_next_batch(self, fate):
        self.network.fates.append(fate)

    @rule(fate=st.sampled_from(["lose", "delay", "repeat"]))
    def disturb_the_next_message(self, fate):
        self.network.next = fate

    @rule(node=names, cordon=st.booleans())
    def cordon(self, node, cordon):
        if node in self.world.controller.views.cluster.nodes:
            self.world.ask("cluster", CordonNode(node=node) if cordon else UncordonNode(node=node))

    @precondition(lambda self: len(self.removed) < 1)
    @rule(node=st.sampled_from(["n2", "n3"]))
    def remove(self, node):
        """Only one that owns nothing: its copies are given up."""
        keyspace = self.world.controller.views.keyspace("users")
        if all(node not in (shard.owner, shard.target) or shard.owner == "n1" for shard in keyspace.shards.values()):
            self.removed.add(node)
            self.world.remove(node)

    def teardown(self):
        self.network.fates.clear()
        self.network.next = None
        for node in self.world.nodes.values():
            node.cut_off = False
        self.world.settle()


MovesMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMoves = MovesMachine.TestCase
