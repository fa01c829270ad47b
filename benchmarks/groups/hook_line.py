"""What hooks and commands of a group say of themselves: a line into a pipe each, as the first thing that they do.

The pipe is read here, so both ends of each time are taken on the clock of one process. A hook that is a shell's own `echo` says
its line as soon as any hook could do anything.
"""

import os
import select
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

HEARD_SECONDS_MAX: Final = 60.0


class Line(NamedTuple):
    """A line: when it was heard (`time.monotonic`), what it says, of which member and epoch, and the process that has said it."""

    at: float
    word: str
    member: str
    epoch: int
    pid: int


class HookLine:
    """The pipe, as long as the block runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._heard: list[Line] = []

    def __enter__(self) -> Self:
        os.mkfifo(self._path)
        # Both ends: so nobody who writes waits for a reader, and the pipe does not end with its last writer.
        self._pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pipe)
        self._path.unlink()

    def says(self, word: str) -> str:
        """What a shell does to say the word."""
        return f'echo "{word} $MUSTER_MEMBER $MUSTER_EPOCH $$" > {self._path}'

    def next(self, word: str, epoch: int = 0, seconds: float = HEARD_SECONDS_MAX) -> Line:
        """The next line with this word, of this epoch or of a later one; it is taken. Raises TimeoutError."""
        ends_at = time.monotonic() + seconds
        while True:
            for number, line in enumerate(self._heard):
                if line.word == word and line.epoch >= epoch:
                    return self._heard.pop(number)
            if (left := ends_at - time.monotonic()) <= 0:
                raise TimeoutError(f"no {word!r} of epoch {epoch} within {seconds:g} s; heard: {self._heard}")
            self._read(left)

    def back(self, line: Line) -> None:
        """Let the line be heard once more."""
        self._heard.append(line)

    def forget(self) -> None:
        """What was said by now is of no interest."""
        self._read(0.0)
        self._heard.clear()

    def _read(self, seconds: float) -> None:
        readable, _, _ = select.select([self._pipe], [], [], seconds)
        if not readable:
            return
        at = time.monotonic()
        # A line is shorter than what a pipe keeps together, so lines of several processes do not mix.
        *lines, self._rest = (self._rest + os.read(self._pipe, 65_536)).split(b"\n")
        for line in lines:
            word, member, epoch, pid = line.decode().split()
            self._heard.append(Line(at, word, member, int(epoch), int(pid)))
