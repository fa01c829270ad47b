"""Two readers of one partition: who reads again what was before, and the stream that goes on from where the group had been.

On assignment the last seconds are read again, so that nobody's silence is forgotten with the worker that noticed it.
Meanwhile the stream brings records too, from wherever was committed: some that were read already, some that the other reader
has yet to come to. Each record counts once, and in the order of the topic: the reader goes on until the stream has come up to
it, and the stream's records that are ahead of it are dropped. It will come to them.
"""


class Merge:
    """Which record of which reader counts. `position` is the last offset that did (-1: none).

    `goal` is the offset up to which the past has to be read before anything is told.
    """

    __slots__ = ("_ahead", "_stream", "goal", "position", "reading")

    def __init__(self, position: int = -1) -> None:
        self.position = position
        self.goal = -1
        self.reading = True
        self._stream = -1
        self._ahead = -1

    def begin(self, position: int, goal: int) -> None:
        """The past is read again from behind this offset on; all up to `goal` counts as past."""
        self.position, self.goal, self.reading = position, goal, True
        # A new assignment is a new stream, which begins at what was committed.
        self._stream = self._ahead = -1

    def from_stream(self, offset: int) -> bool:
        """Whether this record of the stream counts."""
        self._stream = max(self._stream, offset)
        if offset <= self.position:
            return False
        if self.reading:
            self._ahead = offset
            return False
        self.position = offset
        return True

    def from_past(self, offset: int) -> bool:
        """Whether this record of what is read again counts."""
        if offset <= self.position:
            return False
        self.position = offset
        return True

    @property
    def is_past_read(self) -> bool:
        """Whether all that was recorded before the beginning has been read."""
        return self.position >= self.goal

    def hand_over(self) -> bool:
        """Whether the stream goes on alone: it has come up to the past, and nothing that it brought is still to be read."""
        # The stream's next record is the one behind the last that it brought, so nothing may be missing up to there.
        done = self.is_past_read and self._stream >= self.goal and self.position >= max(self._ahead, self._stream)
        self.reading = self.reading and not done
        return done
