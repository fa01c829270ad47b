"""What a resource keeps so that it obeys no primary of an epoch that is over: the highest epoch that it was told of.

A primary stops when its lease ends, as long as its processor runs. A host that is frozen (a suspended machine, a paused
virtual one) stops nobody: when it wakes, its primary may write once more before it looks at any clock, although another one
leads by now. No lease can prevent that write; only who is written to can refuse it.

    guard = muster.Guard("/data/files/epoch")
    with guard.holding(epoch):      # StaleEpoch, if a newer one has been here
        file.write(entry)

The check and the write that it protects must be one step for newer checks: between an older epoch's check and its write no
newer one may be checked, or the older write comes behind the newer one after all. `holding` keeps the lock until the block
ends. `check` alone protects what begins behind it only if a newer check cannot come in between.

A file of one line has the epoch; it is replaced as a whole, and is on the disk before a check returns. Beside it stand two
empty files, by whose locks (flock) the threads and processes of one host take turns. A file system of several hosts is no
place for it.
"""

import fcntl
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from zlib import crc32

from muster.durations import seconds_from
from muster.wire.backoff import pause_seconds
from muster.wire.error import Corrupt, InvalidCommand, ReadFailed, StaleEpoch, WriteFailed

EPOCH_MAX: Final = (1 << 63) - 1
PAUSE_FIRST_SECONDS: Final = 0.0005
PAUSE_MAX_SECONDS: Final = 0.02
_LINE: Final = re.compile(rb"muster-guard 1 epoch=([1-9][0-9]{0,18}) crc32=([0-9a-f]{8})\n")
_LINE_BYTES_MAX: Final = 80


class Guard:
    """The highest epoch that was checked at `path`, by any thread or process of this host; for as long as the file is there.

    A file that is not there has seen no epoch: keep it with what it guards, on the same volume, and never tidy it up. Opening
    and checking raise Corrupt when the file is damaged or is another one's, or has gone back since this guard last saw it;
    ReadFailed and WriteFailed when it cannot be read or written, or its lock was not had within `wait_seconds`.
    """

    def __init__(self, path: str | os.PathLike[str], *, wait_seconds: float = 10.0) -> None:
        # Of a symbolic link the file itself: replacing the link would leave two guards, which know nothing of each other.
        try:
            self._path = Path(path).resolve()
        except (OSError, RuntimeError) as error:  # links that lead in a circle: by Python's version one or the other
            raise ReadFailed(f"{path!s} cannot be read: {error}", path=str(path)) from error
        self._wait_seconds = seconds_from(wait_seconds, "wait_seconds", least=0)
        # What this guard knows to be on the disk: below that the file cannot be any more.
        self._settled = 0
        self._read()

    @property
    def epoch(self) -> int:
        """The highest epoch checked so far, read from the file now; 0: none yet."""
        return self._read()

    def check(self, epoch: int) -> None:
        """Admit the epoch. Raises StaleEpoch, whose `epoch` is the newer one, if a higher one was checked before.

        The same epoch again costs no write; a higher one is on the disk when this returns.
        """
        with self.holding(epoch):
            pass

    @contextmanager
    def holding(self, epoch: int) -> Iterator[None]:
        """As `check`; and until the block ends no other check of this file is answered, by any thread or process.

        Do the protected write in the block, and nothing that may take long: a newer primary waits for its end, for at most
        `wait_seconds`. The lock is nobody's in particular: a check within the block, in the same thread too, waits in vain.
        A coroutine that awaits in the block needs all other checks of its loop to be made in threads.
        """
        check_form(epoch)
        with self._locked():
            self._admit(epoch)
            yield

    def _admit(self, epoch: int) -> None:
        highest = self._read()
        if epoch < highest:
            raise StaleEpoch(f"epoch {epoch} is over; {self._path} has seen epoch {highest}", epoch=highest)
        try:
            if epoch > highest:
                self._replace(epoch)
            elif epoch != self._settled:
                # Whoever wrote it may have been killed before it was on the disk: a power cut could still take it back.
                _sync(self._path)
                _sync(self._path.parent)
        except OSError as error:
            raise WriteFailed(f"epoch {epoch} could not be kept in {self._path}: {error}", epoch=epoch) from error
        self._settled = epoch

    def _read(self) -> int:
        # Before the file is read: another thread may settle a higher epoch meanwhile.
        settled, epoch = self._settled, 0
        try:
            with self._path.open("rb") as file:
                epoch = self._parsed(file.read(_LINE_BYTES_MAX))
        except FileNotFoundError as error:
            if not self._path.parent.is_dir():
                raise ReadFailed(f"there is no folder {self._path.parent} for a guard", path=str(self._path)) from error
        except OSError as error:
            raise ReadFailed(f"{self._path} cannot be read: {error}", path=str(self._path)) from error
        if epoch < settled:
            has = f"epoch {epoch}" if epoch else "gone"
            raise Corrupt(
                f"{self._path} is {has}, after epoch {settled}: it was removed or put back", path=str(self._path)
            )
        return epoch

    def _parsed(self, line: bytes) -> int:
        found = _LINE.fullmatch(line)
        if found is None or line != _line(int(found[1])):
            raise Corrupt(
                f"{self._path} is no file of a guard, or is damaged: it begins with {line[:40]!r}. Which epochs were here is "
                "not known; find out the group's epoch, remove the file, and check that epoch first",
                path=str(self._path),
            )
        return int(found[1])

    def _replace(self, epoch: int) -> None:
        # One writer at a time, by the lock; what one that was killed has left is overwritten.
        fresh = self._beside("new")
        with fresh.open("wb") as file:
            file.write(_line(epoch))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        # The new name is in the folder, which is a file too.
        _sync(self._path.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        ends_at = time.monotonic() + self._wait_seconds
        # Who waits holds the turn meanwhile. Otherwise one that takes the lock again as soon as it has let go could keep a
        # newer primary out for ever.
        turn = self._take("turn", ends_at)
        try:
            lock = self._take("lock", ends_at)
        finally:
            _let_go(turn)
        try:
            yield
        finally:
            _let_go(lock)

    def _take(self, name: str, ends_at: float) -> int:
        path, tries = self._beside(name), 0
        try:
            # A descriptor of its own each time: so threads exclude each other as processes do.
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise WriteFailed(f"the lock {path} cannot be had: {error}", path=str(path)) from error
        try:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return file
                if time.monotonic() >= ends_at:
                    raise WriteFailed(
                        f"{self._path} was held by another check, or a write, for {self._wait_seconds:g} s",
                        path=str(path),
                    )
                time.sleep(pause_seconds(tries, PAUSE_FIRST_SECONDS, PAUSE_MAX_SECONDS, random.random()))
                tries += 1
        except BaseException:
            os.close(file)
            raise

    def _beside(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{name}")


def check_form(epoch: int) -> None:
    """Raises InvalidCommand, if this can be no epoch."""
    if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 < epoch <= EPOCH_MAX:
        raise InvalidCommand(f"epoch: must be a whole number from 1 to {EPOCH_MAX}, not {epoch!r}", field="epoch")


def _line(epoch: int) -> bytes:
    said = b"muster-guard 1 epoch=%d" % epoch
    return b"%b crc32=%08x\n" % (said, crc32(said))


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _let_go(lock: int) -> None:
    # Said, and not left to the closing: a child that was forked meanwhile has the descriptor too.
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)
