"""A log that behaves as badly as a network allows: appends get lost, come late, lose their acknowledgement, or are fenced."""

from collections.abc import Sequence
from random import Random

from eventsourcing.persistence import StoredEvent

from domain.error import Fenced, Uncertain
from domain.message import root

Record = tuple[bytes, bytes]


class Broker:
    """`log` is the partition; `late` what is still on its way. Without `fence`, whoever claims fences nobody."""

    def __init__(self, chance: Random, *, fence: bool) -> None:
        self.chance = chance
        self.fence = fence
        self.log: list[Record] = []
        self.late: list[tuple[int, list[Record]]] = []
        self.epoch = 0

    def next_epoch(self) -> int:
        """Somebody claims: older epochs are refused from now on, if there is a fence."""
        self.epoch += 1
        return self.epoch

    def append(self, epoch: int, records: Sequence[StoredEvent]) -> int:
        """Append one batch; the position of its first record. Raises Fenced or Uncertain, having appended or not."""
        batch = [(root(str(record.originator_id)).encode(), record.state) for record in records]
        self._check(epoch)
        match self.chance.choices(["well", "lost", "unanswered", "late"], [20, 1, 1, 1])[0]:
            case "lost":
                raise Uncertain("lost on the way")
            case "late":
                self.late.append((epoch, batch))
                raise Uncertain("no answer in time")
            case "unanswered":
                self.log += batch
                raise Uncertain("the acknowledgement was lost")
        self.log += batch
        return len(self.log) - len(batch)

    def beat(self, epoch: int, end: int) -> None:
        """Nothing may stand behind the caller's last record. Raises Fenced or Uncertain."""
        self._check(epoch)
        if self.chance.random() < 0.03:
            raise Uncertain("lost on the way")
        if len(self.log) != end + 1:
            raise Fenced("another writer has appended")

    def deliver(self) -> None:
        """Something that was late arrives, unless its sender was fenced meanwhile. One connection keeps its order."""
        if self.late:
            epoch, batch = self.late.pop(0)
            if not self.fence or epoch == self.epoch:
                self.log += batch

    def _check(self, epoch: int) -> None:
        if self.fence and epoch != self.epoch:
            raise Fenced("another writer has claimed")
