"""Producers that are not ours: other hashes, no keys, ids that are used again, transactions that are taken back, garbage.

They send as producers do that lose nothing: what has no outcome yet is published again under its id.
"""

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final
from zlib import crc32

import orjson

from domain.registry import service as s
from muster.wire.command import Command, Envelope, document_of
from muster.wire.registry.spec import Spec
from muster.wire.route import partition_of
from tests.simulation.commands.topic import Topics, Transaction

STREAMS: Final = tuple(f"service/{name}" for name in ("orders", "users", "billing", "mail", "search", "stock"))
GARBAGE: Final = (
    b"",
    b"\xff\xfe no text",
    b"[]",
    b'{"id":"ours"}',
    b'{"id":"nul","type":"muster.instance.register.v1","stream":"service/orders","data":{"instance":"a\\u0000"}}',
    b'{"id":"report/x","type":"muster.instance.deregister.v1","stream":"service/orders","data":{"instance":"a"}}',
    b'{"id":"actor","type":"muster.instance.deregister.v1","stream":"service/orders","data":{"instance":"a"},"actor":"muster"}',
)
"""What is no command of anybody's, in as many ways as there are of being refused before it is decided."""


@dataclass(eq=False)
class Published:
    """What was published to one partition under one id: each command's content, and in which transaction (None: in none)."""

    partition: int
    sent: list[tuple[Envelope, Transaction | None]] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether any of it was really asked."""
        return any(transaction is None or transaction.state == "committed" for _, transaction in self.sent)


class Foreign:
    """All of them. `published` has what stands in the commands topic, by partition and id."""

    def __init__(self, topics: Topics, chance: Random, counts: Counter[str]) -> None:
        self._topics, self._chance, self._counts = topics, chance, counts
        self.published: dict[tuple[int, str], Published] = {}
        self._open: list[Transaction] = []
        self._ids = 0

    def command(self) -> Command:
        """Any that a service takes."""
        instance = self._chance.choice("abc")
        match self._chance.randrange(6):
            case 0 | 1:
                return s.RegisterInstance(
                    instance=instance, spec=Spec(address="10.0.0.7", port=self._chance.choice([80, 81]))
                )
            case 2:
                return s.DeregisterInstance(instance=instance)
            case 3:
                return s.Heartbeat(instance=instance)
            case 4:
                return self._chance.choice([s.SetMaintenance, s.ClearMaintenance])(instance=instance)
            case _:
                return self._chance.choice([s.DrainInstance, s.UndrainInstance])(instance=instance)

    def envelope(self) -> Envelope:
        """A new command, or one that was published before, now and then with something else in it."""
        if self.published and self._chance.random() < 0.2:
            known, _ = self.published[self._chance.choice(list(self.published)[-40:])].sent[0]
            return known if self._chance.random() < 0.8 else replace(known, command=self.command())
        return self._new("f")

    def asked(self) -> Envelope:
        """What somebody asks over HTTP."""
        return self._new("h")

    def _new(self, way: str) -> Envelope:
        self._ids += 1
        return Envelope(f"{way}{self._ids}", self._chance.choice(STREAMS), self.command(), "foreign")

    def publishes(self) -> None:
        """One of them publishes a command, alone or in a transaction."""
        if self._chance.random() < 0.2:
            if len(self._open) < 3:
                self._open.append(Transaction())
            self.send(self.envelope(), self._chance.choice(self._open))
        else:
            self.send(self.envelope())

    def send(self, envelope: Envelope, transaction: Transaction | None = None) -> None:
        """To the partition that the sender's own hash, or none, has chosen."""
        key = self._chance.choice([envelope.stream.encode(), envelope.stream.encode(), None, b"another"])
        self.send_to(self._partition(envelope.stream), envelope, key, transaction)

    def _partition(self, stream: str) -> int:
        partitions = len(self._topics.commands)
        match self._chance.choice(["murmur2", "murmur2", "murmur2", "crc32", "random"]):
            case "murmur2":
                return partition_of(stream, partitions)
            case "crc32":
                return crc32(stream.encode()) % partitions
            case _:
                return self._chance.randrange(partitions)

    def send_to(
        self, partition: int, envelope: Envelope, key: bytes | None, transaction: Transaction | None = None
    ) -> None:
        """As the publisher's own Kafka client would; what does not arrive was not published."""
        if self._topics.publish(partition, key, orjson.dumps(document_of(envelope)), transaction):
            found = self.published.setdefault((partition, envelope.id), Published(partition))
            found.sent.append((envelope, transaction))
            self._counts["published"] += 1

    def garbage(self) -> None:
        """Somebody publishes what is no command."""
        partition = self._chance.randrange(len(self._topics.commands))
        self._topics.publish(partition, None, self._chance.choice(GARBAGE))

    def ends(self, *, well: bool) -> None:
        """One of the transactions is over, if there is one."""
        if self._open:
            transaction = self._open.pop(self._chance.randrange(len(self._open)))
            self._topics.end(transaction, "committed" if well else "aborted")

    def finish(self) -> None:
        """All transactions are over."""
        while self._open:
            self.ends(well=self._chance.random() < 0.5)

    def repeat(self, answered: Set[tuple[int, str]]) -> int:
        """Publish again, as it was, what really was asked and is not answered. Returns how much that was."""
        unanswered = [found for place, found in list(self.published.items()) if found.counts and place not in answered]
        for found in unanswered:
            self.send_to(found.partition, found.sent[0][0], None)
        return len(unanswered)
