"""What is not as it should be, now: told in the log when it begins and when it ends, and shown by status and metrics meanwhile.

    corrupt   a partition's log is damaged: it is neither read on nor written
    failing   a partition takes no writes, because its log cannot be stored
    stale     a partition's view has not been known to be current for so long that answers say so
    stranger  a controller on our topics has another cluster key, so it is no peer
    parked    a row stands still, because an event could not be folded into it
    suspect   checks of most of a service have failed together: it is served all the same, for a while
    unwatched partitions of heartbeats are no telemetry worker's, since one has fallen silent; or none runs at all, though
              heartbeats of instances come by the topic
    lost      a data node's lease has run out: its shards do not serve
    blocked   a saga waits for an operator

Each is looked for, and not announced by whoever brings it about: so what was so before a start is found, too. Looking is a
walk over data nodes and sagas, once a second.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from muster.wire.registry.answers import FAIL_TOGETHER
from workers.gateway import CONDITION_KINDS
from workers.peers.strangers import REMEDY, Strangers
from workers.views.loads import Loads
from workers.views.views import Views
from workers.writer.writer import Writer

look_seconds: Final = 1.0
stale_after_seconds: Final = 30.0
told_at_once_max: Final = 20
"""How many of a kind are told a line each when they begin or end together; the others are counted."""

_LOG: Final = logging.getLogger("muster.controller")
_LEVELS: Final = {"corrupt": logging.ERROR, "failing": logging.ERROR, "blocked": logging.ERROR}

Facts = Mapping[str, str | int | float]
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is not as it should be. `subject` is what it is about: `partition 0`, `node n1`, a saga's stream."""

    kind: str
    subject: str
    since: datetime
    facts: Facts


class Conditions:
    """The conditions of a controller, by kind and subject. `look` finds what has begun and what has ended."""

    def __init__(
        self,
        views: Views,
        writers: Mapping[int, Writer],
        strangers: Strangers | None = None,
        loads: Loads | None = None,
    ) -> None:
        self._views, self._writers, self._strangers = views, writers, strangers
        self._loads = Loads() if loads is None else loads
        self._now: dict[_Key, Condition] = {}

    def now(self) -> tuple[Condition, ...]:
        """Those of the last look, the worst kinds first."""
        return tuple(sorted(self._now.values(), key=lambda each: (CONDITION_KINDS.index(each.kind), each.subject)))

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            self.look(datetime.now(UTC))
            await asyncio.sleep(look_seconds)

    def look(self, at: datetime) -> None:
        """See what there is now, and tell what has begun and what has ended since the last look."""
        # Compared by kind and subject alone: facts like an age change all the time, and are no news.
        found = {(kind, subject): facts for kind, subject, facts in self._found()}
        begun = [Condition(*key, at, facts) for key, facts in found.items() if key not in self._now]
        ended = [condition for key, condition in self._now.items() if key not in found]
        for condition in ended:
            del self._now[condition.kind, condition.subject]
        self._now |= {(condition.kind, condition.subject): condition for condition in begun}
        _tell(begun, "begins", lambda each: each.facts)
        _tell(ended, "is over", lambda each: {"after_seconds": round((at - each.since).total_seconds(), 1)})

    def _found(self) -> Iterator[tuple[str, str, Facts]]:
        yield from self._of_partitions()
        yield from self._of_strangers()
        if (unwatched := self._unwatched()) is not None:
            yield (
                "unwatched",
                "telemetry",
                {"reason": f"nobody finds who is silent {unwatched}: start `muster telemetry`"},
            )
        for (projection, key), parked in self._views.parked.items():
            facts: Facts = {"position": parked.position, "reason": parked.reason}
            yield "parked", f"{projection} {'/'.join(key)}", facts
        for service, suspects in self._views.registry.suspects.items():
            of = len(self._views.instances.get(service, {}))
            yield "suspect", f"service {service}", {"instances": len(suspects), "of": of, "reason": FAIL_TOGETHER}
        # Of nodes and sagas the views are asked, which follow all partitions, whoever writes them.
        for node in self._views.shards.cluster.nodes.values():
            if not node.alive:
                yield "lost", f"node {node.id}", {"lease_seconds": node.lease_seconds, "incarnation": node.incarnation}
        for (stream,), row in self._views.shards.migrations.items():
            if row.standing == "blocked":
                yield "blocked", stream, {"step": row.step or "", "error": row.error or row.cause or ""}

    def _unwatched(self) -> str | None:
        if partitions := self._loads.unwatched(self._writers):
            return f"in partitions {partitions}"
        by_topic = self._views.registry.by_topic.total()
        if by_topic and self._loads.is_without_worker:
            return f"of {by_topic} instances whose heartbeats come by the topic"
        return None

    def _of_partitions(self) -> Iterator[tuple[str, str, Facts]]:
        for number, writer in self._writers.items():
            subject, position = f"partition {number}", self._views.cursors[number].position
            if writer.state == "corrupt":
                yield "corrupt", subject, {"position": position, "reason": writer.detail}
            if writer.failing is not None:
                yield "failing", subject, {"reason": writer.failing}
            # Before the first reading is over nothing is answered from the view, so it cannot be stale yet.
            if writer.recovered.is_set() and (age := self._views.age_seconds(number)) > stale_after_seconds:
                yield "stale", subject, {"position": position, "state": writer.state, "age_seconds": round(age)}

    def _of_strangers(self) -> Iterator[tuple[str, str, Facts]]:
        for name, url in ({} if self._strangers is None else self._strangers.live()).items():
            reigns = [number for number, writer in self._writers.items() if writer.partition.cursor.writer == name]
            writes = f"; by the log it writes partitions {reigns}, which are left to it" if reigns else ""
            reason = f"its signs of life are not made with our key: {REMEDY}{writes}"
            yield "stranger", f"controller {name}", {"url": url, "reason": reason}


def _tell(conditions: list[Condition], what: str, facts_of: Callable[[Condition], Facts]) -> None:
    told: dict[str, int] = {}
    for each in conditions:
        told[each.kind] = told.get(each.kind, 0) + 1
        # A rack that goes takes many with it: the first lines say what it is, and the last one how many there are.
        if told[each.kind] <= told_at_once_max:
            level = logging.INFO if what == "is over" else _LEVELS.get(each.kind, logging.WARNING)
            facts = {"condition": each.kind, "subject": each.subject, **facts_of(each)}
            _LOG.log(level, f"{each.kind} {what}", extra=facts)
    for kind, count in told.items():
        if count > told_at_once_max:
            _LOG.warning(f"{kind} {what}", extra={"condition": kind, "more": count - told_at_once_max})
