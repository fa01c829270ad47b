"""Books about shards and their moves: one owner, growing epochs, a fence before each commit, no copy forgotten on a node."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from domain import saga as s
from domain.message import Event, Recorded
from domain.shards import shard as k
from muster.wire.stream import root_of
from sagas.invariants.sagas import KnownSaga


@dataclass(slots=True)
class KnownShard:
    """Who owns a shard, and who moves it."""

    epoch: int = 0
    owner: str | None = None
    fenced: bool = False
    migration: str | None = None


class ShardBooks:
    """`sagas` are the sagas under way by their streams, as `SagaBooks` keeps them."""

    def __init__(self, sagas: Mapping[str, KnownSaga]) -> None:
        self._sagas = sagas
        self._shards: dict[tuple[str, int], KnownShard] = {}
        self._intents: dict[tuple[str, int, str], tuple[str, bool]] = {}
        self._silent: dict[str, str] = {}
        self._unpaired: dict[int, tuple[str, str]] = {}

    def unpaired(self) -> list[str]:
        """Commits without their saga's own event, so far."""
        return [f"I4 {migration}: its commit stands alone" for _, migration in self._unpaired.values()]

    def due(self) -> list[str]:
        """Clean-ups that are still to come."""
        return [
            f"I11 {keyspace}/{shard} is to be cleaned up on {node}"
            for (keyspace, shard, node), (_, due) in self._intents.items()
            if due
        ]

    def unattested(self, attested: Container[tuple[str, str]]) -> list[str]:
        """Moves that relied on a silence which is not among those (saga, node) pairs."""
        return [
            f"I5 {id_} relied on the silence of {node}, which nobody has attested"
            for id_, node in self._silent.items()
            if (id_, node) not in attested
        ]

    def follows(self, recorded: Recorded) -> Iterator[str]:
        """What is broken by any event that follows a commit and is not of the same command."""
        unpaired = self._unpaired.get(recorded.partition)
        if unpaired is not None and unpaired[0] != recorded.command_id:
            # Reported once, and not again at each later event of the partition.
            del self._unpaired[recorded.partition]
            yield f"I4 {unpaired[1]}: its commit stands alone"

    def take(self, recorded: Recorded) -> Iterator[str]:
        """What the event of a keyspace's stream breaks."""
        event, stream = recorded.event, recorded.stream
        if isinstance(event, k.ShardsAssigned):
            for number in event.shards:
                shard = self._shard(stream, number)
                if shard.epoch:
                    yield f"I1 shard {number} was assigned to {event.node}, but is {shard.owner}'s"
                shard.epoch, shard.owner = 1, event.node
            return
        assert isinstance(event, k.ShardEvent)
        yield from self._shard_event(stream, event, recorded)

    def _shard_event(self, stream: str, event: k.ShardEvent, recorded: Recorded) -> Iterator[str]:
        shard = self._shard(stream, event.shard)
        match event:
            case k.ShardOpened():
                if (shard.owner, shard.epoch) != (event.node, event.epoch):
                    yield f"I4 {event.node} opened shard {event.shard} of {shard.owner} with epoch {event.epoch}"
            case k.ShardMoveStarted():
                if shard.migration is not None:
                    yield f"I9 shard {event.shard} is moved by {shard.migration} and by {event.migration}"
                if (shard.owner, shard.epoch) != (event.source, event.epoch):
                    yield f"I1 {event.migration} starts from {event.source}/{event.epoch}, not from the shard's owner"
                shard.migration = event.migration
            case k.CleanupIntended():
                self._intents[stream, event.shard, event.node] = (event.migration, False)
            case k.CleanupDone() | k.CleanupAbandoned():
                # An intent that is not due counts like none: nobody had asked for the copy to go.
                if self._intents.pop((stream, event.shard, event.node), ("", False))[1] is False:
                    yield f"I11 shard {event.shard} was not to be cleaned up on {event.node}"
            case k.ShardFenced() | k.ShardMoved() | k.ShardReclaimed() | k.ShardMoveEnded():
                if shard.migration != event.migration:
                    yield f"I9 shard {event.shard} is moved by {shard.migration}, not by {event.migration}"
                yield from self._moved(stream, shard, event, recorded)

    def _moved(self, stream: str, shard: KnownShard, event: k.ShardEvent, recorded: Recorded) -> Iterator[str]:
        match event:
            case k.ShardFenced():
                if event.epoch != shard.epoch or shard.fenced:
                    yield f"I1 a fence at epoch {event.epoch} of shard {event.shard}, which is at {shard.epoch}"
                shard.fenced = True
            case k.ShardMoved() | k.ShardReclaimed():
                if not shard.fenced:
                    yield f"I5 shard {event.shard} changed its epoch without a fence"
                if event.epoch != shard.epoch + 1:
                    yield f"I1 the epoch of shard {event.shard} went from {shard.epoch} to {event.epoch}"
                if isinstance(event, k.ShardReclaimed) and event.owner != shard.owner:
                    yield f"I1 shard {event.shard} was given back to {event.owner}, but was {shard.owner}'s"
                if isinstance(event, k.ShardMoved):
                    yield from self._committed(stream, shard, event, recorded)
                shard.epoch, shard.owner, shard.fenced = event.epoch, event.owner, False
            case k.ShardMoveEnded():
                yield from self._ended(stream, shard, event)
                shard.migration = None

    def _committed(self, stream: str, shard: KnownShard, event: k.ShardMoved, recorded: Recorded) -> Iterator[str]:
        self._unpaired[recorded.partition] = (recorded.command_id, event.migration)
        saga = self._sagas.get(event.migration)
        fence = saga.results.get("fence") if saga is not None else None
        if fence is None:
            yield f"I5 shard {event.shard} was moved without an answer to its fence"
        # The source did not answer itself. The cluster's stream has to say that it was silent, and may be read later
        # than this one: so it is only noted here, and asked for at the end.
        elif "extent" not in fence:
            self._silent[event.migration] = str(fence.get("silent"))
        if event.was != shard.owner:
            yield f"I1 shard {event.shard} was moved from {event.was}, but was {shard.owner}'s"
        self._intents.pop((stream, event.shard, event.owner), None)
        self._intents[stream, event.shard, event.was] = (event.migration, False)

    def _ended(self, stream: str, shard: KnownShard, event: k.ShardMoveEnded) -> Iterator[str]:
        if shard.fenced:
            yield f"I6 shard {event.shard} is left fenced"
        left = [place for place, (id_, _) in self._intents.items() if id_ == event.migration and place[0] == stream]
        saga = self._sagas.get(event.migration)
        results = saga.results if saga is not None else {}
        cleaned = results.get("clean" if event.outcome == "completed" else "discard")
        # The event's claim is compared with the answers of the nodes, which alone know what was deleted.
        if left and event.cleaned and (cleaned is None or "removed" in cleaned):
            yield f"I11 {event.migration} says that it left nothing behind on {left[0][2]}, but nobody cleaned up there"
        for place in left:
            if event.cleaned:
                del self._intents[place]
            else:
                self._intents[place] = (event.migration, True)

    def migration_went_on(self, migration: KnownSaga, event: Event, recorded: Recorded) -> Iterator[str]:
        """What an event of a migration's own stream breaks about its shard."""
        stream = recorded.stream
        shard = (root_of(stream), migration.data.get("shard", -1))
        match event:
            case s.StepSucceeded(step="commit") | s.StepSkipped(step="commit"):
                if self._unpaired.pop(recorded.partition, None) != (recorded.command_id, stream):
                    yield "I4 the saga says that it committed, but its shard was not moved with it"
            case s.StepSucceeded(step="prepare") | s.StepSkipped(step="prepare"):
                if (*shard, migration.data["target"]) not in self._intents:
                    yield "I11 a copy was prepared without the intent to clean it up"
            case s.SagaCompleted() | s.SagaCompensated():
                known = self._shards.get(shard)
                if known is not None and known.migration == stream:
                    yield f"I9 it has ended, but keeps shard {migration.data['shard']}"

    def _shard(self, stream: str, number: int) -> KnownShard:
        return self._shards.setdefault((stream, number), KnownShard())
