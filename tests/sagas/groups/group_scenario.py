"""Plays transcripts of failover groups: a command line, `----`, and everything that can be observed.

group synchronous=true max_lag=5   db1, db2 and db3 join, db1 leads and serves
failover [db3] [lossy]             an operator asks for one · abort · pause · resume
ended [seen] · serves              the primary's runner says so · set db1 db2 (the in-sync set, for one caught up or lost)
ready db1 · failed db1 why         a member's runner says so · joins db1 p2 (another process) · reaches db2 90 (its copy)
silent db1 · heard db1             its runner renews no more, or does again · pass 3 (what runs out is recorded)
suspected db1 why · trusted db1    by the checks of its instance · restart (another controller folds the log)
"""

import shlex
from collections.abc import Callable
from typing import Final

import orjson

from domain.catalogue import Answer
from domain.groups import commands as c
from domain.groups import member as m
from domain.message import Recorded
from domain.saga import AbortSaga
from muster.cli.groups.story import line
from muster.wire.command import Command
from projections.groups import shown as row_of
from sagas.catalogue import DEFINITIONS
from sagas.engine.definition import Ask
from sagas.engine.wanted import pending
from tests.sagas.groups.played import STREAM, Played
from tests.scenarios.scenario import shown

_OF_OPERATORS: Final[dict[str, type[Command]]] = {"pause": c.PauseGroup, "resume": c.ResumeGroup}


class GroupScenario:
    """A group, and the transcript of what it was told."""

    def play(self, text: str) -> str:
        """What is observed when the line is played."""
        word, *rest = shlex.split(text)
        if word == "group":
            settings = {name: orjson.loads(value) for name, _, value in (each.partition("=") for each in rest)}
            self._group, before, said = Played(**settings), 0, ""
        else:
            before = len(self._group.history)
            said = self._play(word, rest)
        told = [said] * bool(said) + [_event(each) for each in self._group.history[before:]]
        return "".join(f"{each}\n" for each in [*told, *self._standing()])

    def _play(self, word: str, rest: list[str]) -> str:
        group = self._group
        match word:
            case "failover":
                to = next((each for each in rest if each != "lossy"), None)
                return self._ask(c.Failover(to=to, accept_data_loss="lossy" in rest))
            case "abort":
                return self._ask(AbortSaga(), group.sagas[0].id)
            case "pass":
                group.passes_time(float(rest[0]))
            case "silent":
                group.alive -= set(rest)
            case "heard":
                group.alive |= set(rest)
            case "suspected" | "trusted":
                return self._ask(m.SuspectMember(member=rest[0], evidence=" ".join(rest[1:]) or None))
            case "restart":
                before = group.partition.committed()
                group.claims("w2", group.recovered())
                return f"{'the same' if group.partition.committed() == before else 'ANOTHER'} state"
            case "pause" | "resume":
                return self._ask(_OF_OPERATORS[word]())
            case _:
                return self._said(word, rest)
        return ""

    def _said(self, word: str, rest: list[str]) -> str:
        """What comes of a runner's word."""
        group, own = self._group, self._group.group.ownership
        leader = own.owner or ""
        words: dict[str, Callable[[], Answer | None]] = {
            "joins": lambda: group.joins(*rest),
            "ready": lambda: group.says(m.ReportMember, rest[0], outcome="ready"),
            "failed": lambda: group.says(m.ReportMember, rest[0], outcome="failed", why=" ".join(rest[1:])),
            "reaches": lambda: group.says(m.ReportPosition, rest[0], epoch=own.epoch, position=int(rest[1])),
            "ended": lambda: group.says(m.ReportEnded, leader, epoch=own.epoch, how=(*rest, "said")[0]),
            "serves": lambda: group.says(m.ReportServing, leader, epoch=own.epoch),
            "set": lambda: group.says(
                m.ChangeInSync,
                leader,
                epoch=own.epoch,
                version=own.version,
                in_sync=tuple(rest),
                cause="caught_up" if len(rest) > len(own.in_sync) else "lost",
            ),
        }
        return _refusal(words[word]())

    def _ask(self, command: Command, stream: str = STREAM) -> str:
        said = _refusal(self._group.ask(command, stream))
        self._group.drive()
        return said

    def _standing(self) -> list[str]:
        """How the group stands, and what its failover waits for."""
        group = self._group
        waits = [
            f"{saga.id.removeprefix(f'{STREAM}/')}: at {saga.step}, waits for {ask.waits(group.group)}"
            for saga in group.sagas
            for ask in pending(saga, DEFINITIONS[saga.definition, saga.definition_version])
            if isinstance(ask, Ask) and callable(ask.waits)
        ]
        return [line(row_of("db", group.group)), *waits]


def _refusal(answer: Answer | None) -> str:
    if answer is None or answer.error is None:
        return "" if answer is None or answer.status == "accepted" else answer.status
    return f"refused {answer.error['name']}: {answer.error['detail']}"


def _event(recorded: Recorded) -> str:
    stream = recorded.stream.removeprefix(f"{STREAM}/").removeprefix("group/")
    data = shown(recorded.event, exclude={"data", "saga", "failover", "set_version"})
    return f"@{recorded.position} {stream} {type(recorded.event).__name__} {data}"
