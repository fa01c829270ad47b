"""Which node serves which shard, as far as a client knows: from the map that it watches, and from nodes' refusals.

snapshot  {items, shards}: all shards; a place that is known with a newer epoch stays
delta     {items}: the shards that have changed
refusal   StaleEpoch and NotOwner carry a newer epoch, the owner and its address

From any source, a shard never goes back to a lower epoch, unless a `reset` says that the log is another one.
Pure; `muster.keyspace.router` does the watching.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from muster.client.watch import is_other_log


class Place(NamedTuple):
    """Where a shard is served, and with which epoch; without an `address` no node serves it. `cause`: why its owner does not."""

    shard: int
    epoch: int = 0
    owner: str = ""
    address: str = ""
    status: str = "inactive"
    fenced: bool = False
    cause: str = ""

    def is_behind(self, other: "Place") -> bool:
        """Whether the other is served elsewhere, or with a newer epoch."""
        return (self.epoch, self.address) != (other.epoch, other.address) and other.epoch >= self.epoch


class ShardMap:
    """The places of all shards of one keyspace; `shards` is 0 until the first snapshot."""

    def __init__(self) -> None:
        self.shards = 0
        self._places: list[Place] = []
        self._uses: Counter[str] = Counter()
        self._is_strange = False

    def __getitem__(self, shard: int) -> Place:
        return self._places[shard]

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses that serve a shard."""
        return frozenset(self._uses)

    def take(self, event: str, data: bytes, _token: str) -> Iterator[frozenset[int]]:
        """Apply an event of the watch. Yields the shards that are worth another try now."""
        if event == "reset" and is_other_log(data):
            self._is_strange = True
        if event not in ("snapshot", "delta"):
            return
        document = orjson.loads(data)
        if event == "snapshot":
            # Epochs of another log say nothing about those of this one, and it may have divided the keyspace otherwise.
            if self._is_strange:
                self._begin_anew()
            self._grow(document["shards"])
        yield frozenset(item["shard"] for item in document["items"] if self._take(_place(item)))

    def learn(self, shard: int, epoch: int, owner: str, address: str) -> bool:
        """Take over what a node's refusal says, if it is newer. Returns whether the shard is worth another try."""
        if not address or epoch <= self._places[shard].epoch:
            return False
        return self._take(Place(shard, epoch, owner, address, "active"))

    def _grow(self, shards: int) -> None:
        assert self.shards in (0, shards), f"a keyspace of {self.shards} shards cannot have {shards}"
        if not self.shards:
            # No fewer than there were: calls may be under way to shards of another log.
            count = max(shards, len(self._places))
            self.shards, self._places = shards, [Place(shard) for shard in range(count)]

    def _begin_anew(self) -> None:
        self.shards, self._is_strange = 0, False
        self._uses.clear()

    def _take(self, place: Place) -> bool:
        before = self._places[place.shard]
        # A node's refusal may have named a newer epoch than the watch has reached.
        if place.epoch < before.epoch:
            return False
        self._places[place.shard] = place
        if place.address != before.address:
            self._uses[place.address] += 1
            self._uses[before.address] -= 1
            # `+` drops the addresses that no shard has any more; the empty one, of shards that no node serves, is no
            # address.
            self._uses = +self._uses
            del self._uses[""]
        return bool(place.address) and (before.is_behind(place) or _is_freed(before, place))


def _is_freed(before: Place, place: Place) -> bool:
    # Or its owner is back, or has opened it.
    came = (before.cause and not place.cause) or before.status == "inactive" != place.status
    return bool((before.fenced and not place.fenced) or came)


def _place(item: dict[str, Any]) -> Place:
    owner, address = item["owner"] or "", item["address"] or ""
    cause = item.get("cause") or ""
    return Place(item["shard"], item["epoch"], owner, address, item["status"], item["fenced"], cause)
