"""What the members hold, and what was acknowledged of it: a primary writes, standbys follow, and a set vouches for each entry.

An entry is acknowledged once all members of the set hold it: of the recorded one and, as long as a change is under way, of the
one that was asked for as well. Whoever follows gives up what the primary does not have.
"""

from typing import TYPE_CHECKING, Final

from domain.groups.member import MemberPromoted

if TYPE_CHECKING:
    from tests.simulation.groups.runner import Runner

Entry = tuple[int, int]
entries_turn_max: Final = 4


def common(one: list[Entry], other: list[Entry]) -> int:
    """How far both hold the same."""
    # Entries name their epochs, and those of one epoch are written by one primary: whoever has the last has all before it.
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[middle - 1] == other[middle - 1] else (low, middle - 1)
    return low


def follow(standby: "Runner", primary: "Runner") -> None:
    """The standby takes over a little of what the primary has written."""
    same = common(standby.log, primary.log)
    standby.log[same:] = primary.log[same : same + entries_turn_max]


class Acknowledged:
    """What clients were told is safe, in order."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.lost = 0

    def by(self, primary: "Runner", runners: dict[str, "Runner"]) -> int:
        """The primary acknowledges what all hold that it needs; how many entries that are."""
        held = min(common(runners[name].log, primary.log) for name in primary.vouching)
        before = len(self.entries)
        primary.committed = max(primary.committed, held)
        if held > before:
            assert primary.log[:before] == self.entries, "I15 it acknowledges beside what was acknowledged"
            self.entries = primary.log[:held]
        return len(self.entries) - before

    def promoted(self, event: MemberPromoted, runner: "Runner", *, guarded: bool) -> None:
        """Nothing of it is lost, if the group keeps a set; unless somebody has accepted that."""
        kept = common(self.entries, runner.log)
        if guarded and not event.lossy:
            missing = len(self.entries) - kept
            assert missing == 0, f"I15 {event.member} leads epoch {event.epoch} without {missing} acknowledged entries"
        self.lost += len(self.entries) - kept
        self.entries = self.entries[:kept]
