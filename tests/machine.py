"""A partition machine with a log in a list: groups as sentences, and recovery from what was recorded."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from domain.catalogue import Answer
from domain.message import Recorded
from infra.log.chain import Chain, term_started
from infra.log.codec import CloudEventMapper
from muster.wire.command import Command, Envelope
from muster.wire.stream import root_of
from tests.sample import NOON
from workers.machine.aggregate import AGGREGATES, Aggregates
from workers.machine.group import Group
from workers.machine.partition import Partition


class Machine:
    """`partition` is live; `log` holds (key, value) of every record, in order."""

    def __init__(self, aggregates: Aggregates = AGGREGATES, **limits: int) -> None:
        self.aggregates, self.limits = aggregates, limits
        self.log: list[tuple[bytes, bytes]] = []
        self.monotonic = 0.0
        self.partition = Partition(0, CloudEventMapper(), aggregates, **limits)
        self.claims("w1")

    def claims(self, writer: str, partition: Partition | None = None) -> None:
        """A new term of the live partition, or of one that has recovered and takes its place."""
        self.partition = partition or self.partition
        self.log.append((b"term", term_started(self.partition.cursor, writer, NOON, "/muster/default").state))
        self.follow(self.partition)
        self.partition.begin(self.partition.cursor, 0.0)

    def group(self, *envelopes: Envelope, now: datetime = NOON, offset: int | None = None) -> list[Answer]:
        """Decide, append and acknowledge one group; `offset` is that of its first command in the commands topic."""
        group = self.step(*envelopes, now=now, offset=offset)
        assert len(group.answers) == len(envelopes), "the group was full"
        self.commit(group)
        return group.answers

    def answer(self, envelope: Envelope) -> Answer:
        """The answer to a group of one."""
        return self.group(envelope)[0]

    def step(self, *envelopes: Envelope, now: datetime = NOON, offset: int | None = None) -> Group:
        """A group that is still to be committed or rolled back."""
        offsets = [None] * len(envelopes) if offset is None else range(offset, offset + len(envelopes))
        return self.partition.step(now, list(zip(envelopes, offsets, strict=True)))

    def observe(self, stream: str, command: Command, now: datetime = NOON) -> Group:
        """A group of what the writer has seen itself."""
        return self.partition.step(now, observations=[(stream, command)])

    def commit(self, group: Group) -> list[Recorded]:
        """The group reaches the log, and is acknowledged."""
        self.folded = group.folded
        self.log += [(root_of(str(record.originator_id)).encode(), record.state) for record in group.batch]
        self.partition.commit(group)
        return [recorded for recorded, _ in self.folded]

    def passes(self, seconds: float) -> list[Recorded]:
        """So much time passes, in small steps; what has run out then is recorded as one group."""
        for _ in range(round(seconds * 10) + 1):
            self.monotonic += 0.1
            self.partition.deadlines.advance(self.monotonic)
        return self.commit(self.step())

    def recovered(self) -> Partition:
        """Another partition, folded from the log alone."""
        return self.follow(Partition(0, CloudEventMapper(), self.aggregates, **self.limits))

    def follow(self, partition: Partition) -> Partition:
        """Bring the partition to the log's end."""
        after = partition.cursor
        rest = [(position, *self.log[position]) for position in range(after.position + 1, len(self.log))]
        for batch in Chain(0, after).follow(rest):
            partition.fold(batch)
        return partition

    def documents(self) -> list[dict[str, Any]]:
        """Every record, parsed."""
        return [json.loads(value) for _, value in self.log]


def facts(partition: Partition) -> dict[str, Any]:
    """All that a partition knows and that must not depend on how it came to know it."""
    return {
        "cursor": partition.cursor,
        "streams": {name: (state.version, dict(state.instances)) for name, state in partition.committed().items()},
        "ids": list(partition.ids.recorded()),
        "last_at": partition.last_at,
    }


def statuses(answers: Sequence[Answer]) -> list[str]:
    """What became of each command; a repeat says so, a refusal says why."""
    return [
        f"{answer.error['name']}" if answer.error else f"{answer.status}{' again' if answer.duplicate else ''}"
        for answer in answers
    ]
