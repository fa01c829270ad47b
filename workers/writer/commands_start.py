"""Where a reign begins to read commands, and what was missed: nothing is skipped in silence. Pure.

The log knows how far the commands were read, and of which topic. The topic may be another one by now (deleted and created
again, restored, mirrored), and what was not read yet may be gone from it (an outage longer than the retention, a deletion).
"""

from muster.wire.value import value


@value
class Read:
    """How far commands were read, as the log says: the topic's id (None: not noted), the next offset (None: not at all)."""

    topic: str | None
    offset: int | None


@value
class FoundTopic:
    """The topic as it is: its id (None: this broker tells none), its first offset, and one past its last."""

    topic: str | None
    first: int
    end: int


@value
class Start:
    """Where to read from; `lost` commands, at most, are gone unread; `why` says what has happened, or None."""

    offset: int
    lost: int = 0
    why: str | None = None


def start_of(read: Read, found: FoundTopic) -> Start:
    """Where to begin."""
    if read.offset is None:
        why = f"{found.first} commands were gone before the first was read"
        return Start(found.first, found.first, why if found.first else None)
    if read.topic is not None and found.topic is not None and read.topic != found.topic:
        return _of_another(found, f"the topic was created anew: {found.topic}, not {read.topic}")
    if read.offset > found.end:
        shorter = f"the topic ends at {found.end}, and was read up to {read.offset}"
        # The very same topic has lost its end. What stands before that was decided; to read all of it again would be wrong
        # for whatever is older than the ids that are remembered.
        if read.topic is not None and read.topic == found.topic:
            return Start(found.end, 0, shorter)
        return _of_another(found, f"{shorter}: it is another one")
    if read.offset < found.first:
        lost = found.first - read.offset
        return Start(found.first, lost, f"the commands at offsets {read.offset} to {found.first - 1} are gone unread")
    return Start(read.offset)


def _of_another(found: FoundTopic, why: str) -> Start:
    gone = f", and its first {found.first} commands are gone unread" if found.first else ""
    return Start(found.first, found.first, f"{why}; it is read from its beginning{gone}")
