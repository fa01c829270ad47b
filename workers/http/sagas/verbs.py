"""The verbs of an operator over HTTP: one list of routes, below the path of any kind of saga."""

from collections.abc import Callable
from dataclasses import dataclass

from domain.catalogue import command_from
from domain.saga import AbortSaga, ForceComplete, PauseSaga, ResumeSaga, RetryStep, SkipStep, UpgradeSaga
from muster.wire.command import Command
from workers.gateway import Gateway
from workers.http.exchange import Reply, Request
from workers.http.model import Written
from workers.http.routing import Handler, Route
from workers.http.sagas.model import SkipBody
from workers.http.write import answered, begun, execute, give


@dataclass(frozen=True, slots=True)
class SagaVerbs:
    """The handlers of verbs. `stream` gives the stream of the saga that a request's path names."""

    gateway: Gateway
    stream: Callable[[Request], str]

    def verb(self, command: type[Command]) -> Handler:
        """The handler of a verb."""

        async def run(request: Request) -> Reply:
            return await give(self.gateway, request, self.stream(request), command, {}, reasoned=True)

        return run

    async def skip(self, request: Request) -> Reply:
        """Leave a step out: the one that the body names, else the one under way."""
        stream = self.stream(request)
        write, fields = await begun(request, reasoned=True)
        if fields.get("step") is not None:
            steps = [fields["step"]]
        else:
            # A repeat comes when another step is under way: it is known by the step that the first one has named.
            rows = self.gateway.views.shards.saga(stream).steps
            steps = list(dict.fromkeys(row.step for row in reversed(rows)))
        for step in steps:
            command = command_from(SkipStep.type, {**fields, "step": step})
            # Each try has the same id. A conflict says that the first request with it named another step: go on to that one.
            answer = await execute(self.gateway, write.envelope(stream, command), write.seconds)
            if answer.error is None or answer.error["name"] != "IdempotencyConflict":
                break
        return answered(answer, write.known, self.gateway.views)


def verb_routes(
    gateway: Gateway, path: str, stream: Callable[[Request], str], tag: str, *, abort: str
) -> tuple[Route, ...]:
    """The routes of all verbs below the path of a saga. `abort` says when it may be turned back."""
    verbs = SagaVerbs(gateway, stream)

    def verb(name: str, command: type[Command], summary: str) -> Route:
        handler = verbs.verb(command)
        return Route("POST", f"{path}/{name}", handler, summary, tag, answer=Written, command=command, reasoned=True)

    skip = Route(
        "POST",
        f"{path}/skip",
        verbs.skip,
        "Leave a step out",
        tag,
        answer=Written,
        command=SkipStep,
        body=SkipBody,
        reasoned=True,
    )
    return (
        verb("pause", PauseSaga, "Stop after what is under way"),
        verb("resume", ResumeSaga, "Go on"),
        verb("retry", RetryStep, "Try the failed step again"),
        skip,
        verb("abort", AbortSaga, abort),
        verb("force-complete", ForceComplete, "Leave out what can be left out of the rest"),
        verb("upgrade", UpgradeSaga, "Let a later version of the definition take over"),
    )
