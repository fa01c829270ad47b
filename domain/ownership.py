"""Who owns something that must have one owner at a time, and how that passes on: the same value for groups and shards. Pure.

    owned ──fence──▶ fenced ──end──▶ ended ──pass_on──▶ owned by another (or the same) one, epoch + 1
      └───────────end──────────────────┘

An epoch is a fencing token: it only grows, and whoever has been told of a higher one refuses the lower. `in_sync` is the recorded
set of copies that every acknowledgement of the epoch rests on, changed by the owner alone, by compare-and-set on `version`: a
late duplicate of an older change could match an equal set, but never an equal version.
"""

from dataclasses import replace
from typing import Literal

from muster.wire.error import StaleEpoch, VersionConflict
from muster.wire.value import value

EndedBy = Literal["said", "seen", "lease", "hook"]
"""What proves that an epoch is over: its owner's word, somebody who saw the process end, the lease, or a fencing hook."""


@value
class Ownership:
    """An epoch and its owner (None: nobody has owned it yet). `fenced`: nothing new is acknowledged at or below the epoch;
    `ended`: what proves that its owner acknowledges nothing any more. `version` counts the changes of `in_sync`, over all epochs.
    """

    epoch: int = 0
    owner: str | None = None
    fenced: bool = False
    ended: EndedBy | None = None
    in_sync: tuple[str, ...] = ()
    version: int = 0

    @property
    def holder(self) -> str | None:
        """The owner whose epoch has not ended."""
        return self.owner if self.ended is None else None


def check_current(ownership: Ownership, epoch: int) -> None:
    """Raises StaleEpoch, with the current epoch and owner, if this epoch is over, fenced, or not the current one."""
    if epoch != ownership.epoch or ownership.fenced or ownership.ended is not None:
        what = "is over" if epoch != ownership.epoch or ownership.ended is not None else "is fenced"
        raise StaleEpoch(
            f"epoch {epoch} {what}; the epoch is {ownership.epoch}", epoch=ownership.epoch, owner=ownership.holder
        )


def check_set_change(ownership: Ownership, epoch: int, version: int) -> None:
    """Raises StaleEpoch or VersionConflict, if the set of this epoch and version is not the current one any more."""
    check_current(ownership, epoch)
    # Not the sets: a late duplicate of an older change may find an equal one.
    if version != ownership.version:
        raise VersionConflict(
            f"the in-sync set is at version {ownership.version}, not {version}", actual=ownership.version
        )


def change_set(ownership: Ownership, in_sync: tuple[str, ...]) -> Ownership:
    """Acknowledgements rest on these copies from now on."""
    return replace(ownership, in_sync=in_sync, version=ownership.version + 1)


def fence(ownership: Ownership) -> Ownership:
    """The owner is to acknowledge nothing any more."""
    assert not ownership.fenced, f"epoch {ownership.epoch} was fenced twice"
    return replace(ownership, fenced=True)


def end(ownership: Ownership, how: EndedBy) -> Ownership:
    """It is proven that the owner acknowledges nothing any more."""
    assert ownership.holder is not None, f"epoch {ownership.epoch} ended twice, or nobody owned it"
    return replace(ownership, ended=how)


def pass_on(ownership: Ownership, epoch: int, owner: str, in_sync: tuple[str, ...]) -> Ownership:
    """The next epoch, and its owner."""
    assert epoch == ownership.epoch + 1, f"epoch gap: {ownership.epoch} is followed by {epoch}"
    return Ownership(epoch, owner, in_sync=in_sync, version=ownership.version + 1)
