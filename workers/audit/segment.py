"""A walk over part of a partition, as a value, and how such parts are joined into one report.

A segment that does not begin at the log's start assumes the cursor that its first document names as its predecessor. It
counts only if the segment before it arrives at exactly that cursor, so the joined walk proves no less than one walk does.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from infra.log.port import START, Cursor

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Breach:
    """The first place where history breaks, and how."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found. `head` is the cursor after the last whole batch without a breach."""

    partition: int
    events: int
    terms: int
    voids: int
    streams: int
    head: Cursor
    breach: Breach | None


@dataclass(slots=True)
class Segment:
    """A walk over a part of a partition, from `start` to `end`, and what the part before must end with.

    `first` holds by stream the (version, position) of its first event in the segment, `versions` the version that comes next.
    """

    start: Cursor
    end: Cursor
    events: int = 0
    voids: int = 0
    first: dict[str, tuple[int, int]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    first_at: tuple[datetime, int] | None = None
    last_at: datetime = _LONG_AGO
    breach: Breach | None = None


def report(partition: int, segments: Iterable[Segment]) -> VerifyReport:
    """The segments, joined at their ends, as one report; it ends at the first breach, or where two of them do not meet."""
    whole = Segment(START, START)
    for segment in segments:
        # What comes after a breach, or does not begin where the part before ended, proves nothing.
        if whole.breach is not None or segment.start != whole.end:
            break
        _join(whole, segment)
    return VerifyReport(
        *(partition, whole.events, whole.end.term, whole.voids, len(whole.versions), whole.end, whole.breach)
    )


def _join(whole: Segment, segment: Segment) -> None:
    # Versions and instants of the segment's first events could not be compared in its own walk; here they are.
    breaches = [segment.breach] if segment.breach is not None else []
    for stream, (version, position) in segment.first.items():
        expected = whole.versions.get(stream, 0)
        if version != expected:
            breaches.append(Breach(position, f"version {version} of {stream}, where {expected} comes next"))
    if segment.first_at is not None and segment.first_at[0] < whole.last_at:
        breaches.append(Breach(segment.first_at[1], "time runs backwards"))
    whole.breach = min(breaches, key=lambda breach: breach.position, default=None)
    whole.end, whole.last_at = segment.end, max(whole.last_at, segment.last_at)
    whole.events += segment.events
    whole.voids += segment.voids
    whole.versions |= segment.versions
