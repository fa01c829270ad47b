"""The LMDB environment under a store: held by one process, enlarged when it is full, its errors in our words.

LMDB's map may be enlarged only while no transaction of this process is open. So all short reads go through a gate
that enlarging closes for a moment, and the transactions of long reads are ended: their readers get ReadFailed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock
from typing import Any, Final, TypeVar

import lmdb

from infra.folder_lock import FolderHeld, hold
from infra.shards.soundness import DAMAGE, DATABASES, check_whole, damaged
from muster.wire.error import Corrupt, NotReady, ReadFailed, WriteFailed

T = TypeVar("T")

LOCK_FILE: Final = "holder"
readers_max: Final = 512


class Environment:
    """The folder's databases `shards`, `pairs`, `changes`, `ids` and `wipes`. Raises NotReady when another process has it,
    and Corrupt when it is damaged.
    """

    def __init__(self, path: Path, map_bytes: int) -> None:
        self._path = path
        # LMDB itself lets several processes in. The gate below and the numbers of copies are right within one only.
        self._lock_file = _hold(path)
        self._calm = Condition()
        self._writing = Lock()
        self._readers = 0
        self._shut = False
        self._long_reads: set[LongRead] = set()
        try:
            self._env = lmdb.open(str(path), map_size=map_bytes, max_dbs=8, max_readers=readers_max)
            check_whole(path, self._env)
            # Readers of a process that was killed would keep freed pages from being used again.
            self._env.reader_check()
            self.shards, self.pairs, self.changes, self.ids, self.wipes = (
                self._env.open_db(name) for name in DATABASES
            )
        except Corrupt:
            os.close(self._lock_file)
            raise
        except lmdb.Error as error:
            os.close(self._lock_file)
            if isinstance(error, DAMAGE):
                raise damaged(path, error) from error
            raise NotReady(f"the store in {path} cannot be opened: {error}") from error

    def close(self) -> None:
        """Wait for what is under way, end long reads, let the folder go."""
        with self._writing, self._alone():
            self._end_long_reads()
            self._env.close()
            os.close(self._lock_file)

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """A short read transaction. Raises ReadFailed."""
        with self.inside():
            try:
                with self._env.begin() as transaction:
                    yield transaction
            except lmdb.Error as error:
                raise ReadFailed(f"the store cannot read: {error}") from error

    def write(self, work: Callable[[Any], T]) -> T:
        """What `work` returns, once what it wrote into the transaction is durable. It is called again after the map was
        enlarged. Raises WriteFailed, and what `work` raises; then nothing was written.
        """
        with self._writing:
            while True:
                try:
                    return self._try(work)
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.Error as error:
                    raise WriteFailed(f"the store cannot write: {error}") from error

    def _try(self, work: Callable[[Any], T]) -> T:
        transaction = self._env.begin(write=True)
        try:
            result = work(transaction)
            transaction.commit()
        except BaseException:
            # Giving up a write, py-lmdb waits for a moment in which no thread reads; under many reads there is none.
            with self._alone():
                transaction.abort()
            raise
        return result

    def read_long(self) -> "LongRead":
        """A read transaction that may stay open for long; to be closed."""
        with self.inside():
            try:
                read = LongRead(self, self._env.begin())
            except lmdb.Error as error:
                raise ReadFailed(f"the store cannot read: {error}") from error
            self._long_reads.add(read)
            return read

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Within it the map stays where it is."""
        with self._calm:
            while self._shut:
                self._calm.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._calm:
                self._readers -= 1
                if not self._readers:
                    self._calm.notify_all()

    def forget(self, read: "LongRead") -> None:
        """The read was closed."""
        self._long_reads.discard(read)

    def _end_long_reads(self) -> None:
        while self._long_reads:
            self._long_reads.pop().end()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._calm:
            self._shut = True
            try:
                self._calm.wait_for(lambda: not self._readers)
                yield
            finally:
                self._shut = False
                self._calm.notify_all()

    def _grow(self) -> None:
        with self._alone():
            # They may stay open for long, and all writes wait here. Their readers get an error, and begin again.
            self._end_long_reads()
            size = self._env.info()["map_size"]
            try:
                self._env.set_mapsize(2 * size)
            except (lmdb.Error, OverflowError) as error:
                raise WriteFailed(f"the store's map of {size} bytes is full and cannot grow: {error}") from error


class LongRead:
    """A read transaction in steps; between them the environment may end it."""

    def __init__(self, environment: Environment, transaction: Any) -> None:
        self._environment = environment
        self._transaction = transaction

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """One step, in one thread at a time. Raises ReadFailed when the transaction was ended."""
        with self._environment.inside():
            if self._transaction is None:
                raise ReadFailed("the read was ended because the store's map was enlarged or closed: begin again")
            try:
                yield self._transaction
            except lmdb.Error as error:
                raise ReadFailed(f"the store cannot read: {error}") from error

    def close(self) -> None:
        """End the transaction; its pages may be used again."""
        with self._environment.inside():
            self._environment.forget(self)
            self.end()

    def end(self) -> None:
        """End the transaction. The caller makes sure that nobody is reading."""
        if self._transaction is not None:
            self._transaction.abort()
            self._transaction = None


def _hold(path: Path) -> int:
    """Hold the folder, made if missing. Raises NotReady with the holder's process id, or why the folder cannot be used."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        return hold(path / LOCK_FILE)
    except OSError as error:
        raise NotReady(f"the folder {path} cannot be used: {error.strerror} ({error.filename})") from error
    except FolderHeld as held:
        detail = f"the store in {path} is held by process {held.holder}; stop it, or use another folder"
        raise NotReady(detail) from None
