"""Plays transcripts of moves: a command line, `----`, and everything that can be observed.

nodes n1 n2                        they join · keyspace users shards=4 nodes=n1 (its shards are opened at once)
move users/2 n2 [hold=true]        · pause|resume|abort|retry|force-complete 1 [reason=…] · skip 1 step
done n2 [position=12 digest=ab]    the node has done what is wanted of it · fail n2 why [final]
hear                               what the controller asks of the cluster for its sagas, and hears there
renew n1 · remove n2 · cordon n2   · pass 5 (what runs out is recorded) · restart (another controller folds the log)
"""

import shlex
from collections.abc import Callable

from domain.catalogue import Answer
from domain.message import Recorded
from domain.saga import VERBS, ReportStep, Saga
from domain.shards.keyspace import CreateKeyspace, MoveShard, ReportDropped, ReportOpened
from domain.shards.node import CordonNode, JoinNode, RemoveNode, RenewNode
from muster.wire.command import Command, Envelope
from sagas.catalogue import DEFINITIONS
from sagas.engine.definition import Ask, Delegate
from sagas.engine.verbs import allowed
from sagas.engine.wanted import task_id
from sagas.tasks import TaskRow, actions_of
from tests.scenarios.scenario import shown
from tests.simulation.move_controller import MoveController

KEYSPACE = "keyspace/users"
HEARINGS, HEARING_SECONDS = 4, 0.6


class MoveScenario:
    """A controller, and the transcript of what it was told."""

    def __init__(self) -> None:
        self.recorded: list[Recorded] = []
        self.said: list[str] = []
        self.controller = MoveController(self.recorded.append, lambda _: "record", self._post)

    def play(self, line: str) -> str:
        """What is observed when the line is played."""
        word, *rest = shlex.split(line)
        self.recorded.clear()
        said = [said for said in self._play(word, rest) if said]
        told = [_event(recorded) for recorded in self.recorded]
        sagas = [_saga(self.controller.views.sagas[id_]) for id_ in dict.fromkeys(_moves(self.recorded))]
        return "".join(f"{each}\n" for each in [*said, *told, *sagas]) or "nothing\n"

    def _play(self, word: str, rest: list[str]) -> list[str]:
        plain, options = (
            [each for each in rest if "=" not in each],
            dict(each.split("=") for each in rest if "=" in each),
        )
        match word:
            case "nodes":
                return [self._ask("cluster", _join(node)) for node in plain]
            case "keyspace":
                return self._create(int(options["shards"]), tuple(options["nodes"].split(",")))
            case "move":
                shard = int(plain[0].partition("/")[2])
                return [self._ask(KEYSPACE, MoveShard.model_validate({"shard": shard, "target": plain[1], **options}))]
            case "done" | "fail":
                return [self._report(word, plain, options)]
            case "hear":
                return self._hear()
            case "pass":
                for _ in range(round(float(rest[0]) * 10)):
                    self.controller.pass_time(0.1)
            case "restart":
                self.controller.start()
                return [f"the same state, term {self.controller.partition.cursor.term}"]
            case "renew":
                incarnation = self.controller.views.node(plain[0]).incarnation
                return [self._ask("cluster", RenewNode(node=plain[0], incarnation=incarnation))]
            case "remove" | "cordon":
                kind = RemoveNode if word == "remove" else CordonNode
                return [self._ask("cluster", kind(node=plain[0]))]
            case _:
                steps = {"step": plain[1]} if word == "skip" else {}
                verb = VERBS[word].model_validate(steps)
                return [self._ask(f"{KEYSPACE}/migration/{plain[0]}", verb)]
        return []

    def _ask(self, stream: str, command: Command, actor: str = "ann") -> str:
        answer = self.controller.ask(stream, command, actor)
        if answer.error is not None:
            return f"refused {answer.error['name']}: {answer.error['detail']}"
        return answer.status if answer.status != "accepted" else ""

    def _create(self, shards: int, nodes: tuple[str, ...]) -> list[str]:
        said = [self._ask(KEYSPACE, CreateKeyspace(shards=shards, nodes=nodes))]
        for number in range(shards):
            owner = self.controller.views.keyspace("users").shard(number).owner
            said.append(self._ask(KEYSPACE, ReportOpened(shard=number, node=str(owner), epoch=1)))
        return said

    def _report(self, word: str, plain: list[str], options: dict[str, str]) -> str:
        tasks = self.controller.views.tasks.get(plain[0], {}).values()
        if not tasks:
            return f"nothing is wanted of {plain[0]}"
        [task] = tasks
        if task.saga is None:
            migration = task.params["migration"]
            return self._ask(KEYSPACE, ReportDropped(shard=task.shard, node=task.node, migration=migration), task.node)
        return self._ask(task.saga, _answer(task, word, plain, options), task.node)

    def _hear(self) -> list[str]:
        """What the driver asks of the cluster, and what the cluster says to it."""
        self.said.clear()
        for _ in range(HEARINGS):
            self.controller.see()
            self.controller.drive(HEARING_SECONDS)
        return self.said

    def _post(self, envelope: Envelope, told: Callable[[Answer], None]) -> None:
        before, name = len(self.recorded), type(envelope.command).__name__
        answer = self.controller.ask(envelope.stream, envelope.command, "muster", envelope.id)
        if answer.error is not None:
            self.said.append(f"the cluster refuses {name}: {answer.error['name']}")
        elif len(self.recorded) == before:
            self.said.append(f"the cluster says to {name}: {answer.status}")
        told(answer)


def _join(node: str) -> JoinNode:
    return JoinNode(node=node, address=f"{node}:7400", lease_seconds=5.0, process="p1", store=f"{node}-disk")


def _answer(task: TaskRow, word: str, plain: list[str], options: dict[str, str]) -> ReportStep:
    assert task.step is not None
    about = {"step": task.step, "attempt": task.attempt, "node": task.node}
    if word == "fail":
        error, final = plain[1], "final" in plain[2:]
        return ReportStep.model_validate({**about, "outcome": "failed", "error": error, "final": final})
    result = {}
    if options:
        result = {"extent": {"position": int(options["position"]), "digest": options["digest"]}}
    return ReportStep.model_validate({**about, "outcome": "done", "result": result})


def _moves(recorded: list[Recorded]) -> list[str]:
    return [each.stream for each in recorded if "/migration/" in each.stream]


def _event(recorded: Recorded) -> str:
    stream = recorded.stream.removeprefix(f"{KEYSPACE}/").removeprefix("keyspace/")
    data = shown(recorded.event, exclude={"data", "migration", "saga"})
    by = f" by {recorded.actor}" if recorded.actor not in ("muster", "ann") else ""
    return f"@{recorded.position} {stream} {type(recorded.event).__name__} {data}{by}"


def _saga(saga: Saga) -> str:
    """How the saga stands, what it wants, and what may be done about it."""
    name = saga.id.removeprefix(f"{KEYSPACE}/")
    if saga.step is None:
        return f"{name}: {saga.phase}" + (f", {saga.cause}" if saga.cause else "")
    standing = "paused" if saga.paused else saga.standing
    lines = [f"{name}: {saga.phase}, {standing} at {task_id(saga).removeprefix(saga.id + '/')}"]
    for action in actions_of(saga):
        match action:
            case Delegate():
                epoch = action.params["epoch"]
                lines.append(f"  wants {action.node} to {action.kind}, epoch {epoch}" + " (assists)" * action.assist)
            case Ask() if action.command is not None:
                lines.append(f"  asks the cluster to {type(action.command).__name__}")
    verbs = allowed(saga, DEFINITIONS[saga.definition, saga.definition_version])
    return "\n".join([*lines, f"  allowed: {', '.join(verbs)}"])
