"""One projection's rows while events are folded into them: all of them in memory, or the newest ones of a store."""

from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar

from domain.message import Recorded
from infra.postgres.store import Changes, ParkedKey
from projections.projection import Key, Projection

Row = TypeVar("Row")
left_keys_max: Final = 1_000_000
"""How many keys a fold remembers whose rows it does not hold; with more of them every unknown key is looked up."""


class _Place(Generic[Row]):
    """Where the row of a key is kept, so that a fold looks a key up once. `existed`: whether the key had a row when it first
    changed since the last `take`; None: it has not.
    """

    __slots__ = ("existed", "row")

    def __init__(self, row: Row | None) -> None:
        self.row = row
        self.existed: bool | None = None


class Fold(Generic[Row]):
    """Folds events into the rows of one projection and remembers which rows changed.

    `rows_max` bounds how many unchanged rows are kept (None: all). `complete`: the store holds no rows but those that came
    from here, so that a new key need not be looked up. An event that cannot be folded parks its key: the row stands still
    from there on.
    """

    def __init__(self, projection: Projection[Row], *, rows_max: int | None = None, complete: bool = True) -> None:
        self.projection = projection
        self.parked: dict[Key, ParkedKey] = {}
        self._rows_max = rows_max
        # Hashes of the keys whose rows have left memory (None: any key may have one). One of two keys with the same
        # hash is looked up in vain, no more; and a hash takes 70 bytes where a row takes thousands.
        self._left: set[int] | None = set() if complete else None
        # Two generations stand for "least recently used": what is not asked for between two turns is dropped.
        self._young: dict[Key, _Place[Row]] = {}
        self._old: dict[Key, _Place[Row]] = {}
        self._changed: list[tuple[Key, _Place[Row]]] = []
        self._newly_parked: list[ParkedKey] = []

    @property
    def changes(self) -> int:
        """How many keys have changed since the last `take`."""
        return len(self._changed) + len(self._newly_parked)

    @property
    def rows(self) -> dict[Key, Row]:
        """The rows in memory, by key."""
        return {key: place.row for key, place in (self._old | self._young).items() if place.row is not None}

    def missing(self, keys: Iterable[Key | None]) -> list[Key]:
        """Those of the keys whose rows must be loaded (`load`) before events on them are applied."""
        young, old, left = self._young, self._old, self._left
        if left is not None and not left and not old:
            return []
        missing = []
        for key in set(keys):
            if key is None or key in young:
                continue
            if key in old:
                young[key] = old[key]
            elif left is None or hash(key) in left:
                missing.append(key)
        return missing

    def load(self, keys: Iterable[Key], rows: dict[Key, Row]) -> None:
        """Take in what the store has under the keys."""
        self._young.update((key, _Place(rows.get(key))) for key in keys)

    def apply(self, recorded: Sequence[Recorded], keys: Sequence[Key | None] | None = None) -> None:
        """Fold the events, in order. `keys` are those that they touch, for a caller that has them already."""
        places, changed, parked, fold = self._young, self._changed, self.parked, self.projection.fold
        if keys is None:
            keys = self.projection.touched_by_each(recorded)
        for event, key in zip(recorded, keys, strict=True):
            if key is None or (parked and key in parked):
                continue
            place = places.get(key)
            if place is None:
                place = places[key] = _Place(None)
            before = place.row
            try:
                place.row = fold(before, event)
            except Exception as error:  # noqa: BLE001  whatever the fold chokes on, only this key may suffer
                self._park(ParkedKey(key, event.position, f"{type(error).__name__}: {error}"))
                continue
            if place.existed is None:
                place.existed = before is not None
                changed.append((key, place))

    def take(self) -> Changes:
        """What has changed since the last call. The rows stay, until two more calls if they are not used again."""
        changes = Changes(parked=self._newly_parked)
        for key, place in self._changed:
            row, existed, place.existed = place.row, place.existed, None
            if row is not None:
                (changes.changed if existed else changes.added).append((key, row))
            elif existed:
                changes.removed.append(key)
        self._changed, self._newly_parked = [], []
        self._turn()
        return changes

    def _turn(self) -> None:
        if self._rows_max is not None and len(self._young) > self._rows_max // 2:
            # What leaves memory here has been taken at the last turn or before, and the caller has stored it.
            if self._left is not None:
                self._left.update(hash(key) for key, place in self._old.items() if place.row is not None)
                if len(self._left) > left_keys_max:
                    self._left = None
            self._young, self._old = {}, self._young

    def _park(self, parked: ParkedKey) -> None:
        self.parked[parked.key] = parked
        self._newly_parked.append(parked)
