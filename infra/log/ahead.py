"""The parent's side of reading a long stretch of a log in a child process, so that a start uses both cores.

The child writes frames of 4 bytes of length and a marshalled tuple: ("started",) when it is ready for readings, and for each
reading ("batches", (cursor, voids, rows, terms), …) any number of times, ("error", facts) if it failed, and an empty frame
at its end. For rows see `infra.log.decoded`, for facts `muster.wire.problem`; for the requests and the program itself see
`infra.read_ahead`. Nothing here knows what a source means: it is passed on as it is.
"""

import asyncio
import marshal
import struct
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, Self

import orjson

from infra.log.decoded import DecodedRecords
from infra.log.port import Batch, Cursor, Term
from muster.wire.error import NotReady
from muster.wire.problem import error_from

PROGRAM: Final = (sys.executable, "-P", "-m", "infra.read_ahead")
"""The child's command line. `-P` keeps the current folder off its path, where a user may have an `infra` of their own."""

records_min: Final = 50_000
patience_seconds: Final = 1.0
LENGTH: Final = struct.Struct(">I")
_BUFFER_BYTES: Final = 1 << 22

Source = tuple[str | int | float, ...]
"""Where the child reads; what it means is between the log that makes it and the child's program."""

Read = Callable[[Cursor], AsyncGenerator[Batch, None]]


def is_long(after: Cursor, last: int) -> bool:
    """Whether the records after the cursor are enough to be worth the start of a child."""
    return last - after.position >= records_min


class ReadAhead:
    """The long readings of all partitions of an engine, one after another through one child, which runs while they last.

    One at a time, because one child reads about as fast as its parent can fold.
    """

    def __init__(self, command: Sequence[str] = PROGRAM) -> None:
        self._command = command
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._taken_at = 0.0
        self._child: Child | None = None

    async def read(self, source: Source, here: Read, after: Cursor, last: int) -> AsyncGenerator[Batch, None]:
        """The batches after the cursor up to position `last`, of which the child reads what `here` has not read before
        the child has started; raises what `here` raises, and NotReady when the child fails.
        """
        if not await self._our_turn():
            async with aclosing(here(after)) as batches:
                async for batch in batches:
                    yield batch._replace(left=max(0, last - batch.cursor.position))
            return
        clock, done = asyncio.get_running_loop().time, False
        try:
            async with aclosing(self._both(source, here, after, last)) as batches:
                async for batch in batches:
                    yield batch._replace(left=max(0, last - batch.cursor.position))
                    self._taken_at = clock()
            done = True
        finally:
            self._turn.release()
            if not (
                done and self._waiting
            ):  # The child is still writing batches of this reading; the next reader must not get them.
                await self._end()

    async def _both(self, source: Source, here: Read, after: Cursor, last: int) -> AsyncGenerator[Batch, None]:
        child = self._child
        # A child that the reading before has kept is ready at once. A new one needs a moment, in which we read here.
        if child is None:
            child = self._child = await Child(self._command).start()
            async with aclosing(here(after)) as batches:
                async for batch in batches:
                    yield batch
                    after = batch.cursor
                    # Between two batches the cursor is whole, so the child can go on exactly from it.
                    if child.ready:
                        break
        if after.position < last:
            async with aclosing(child.read(source, after, last)) as batches:
                async for batch in batches:
                    yield batch

    async def _our_turn(self) -> bool:
        """Wait for the child. False: the reading that has it has taken nothing for a while, and may be waiting for us."""
        clock = asyncio.get_running_loop().time
        self._waiting += 1
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(patience_seconds):
                        await self._turn.acquire()
                    self._taken_at = clock()
                    return True
                if clock() - self._taken_at > patience_seconds:
                    return False
        finally:
            self._waiting -= 1
            if not self._turn.locked():  # We were cancelled, and the child was kept for us.
                await self._end()

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.end()


class Child:
    """The process. Use as `async with Child() as child`, or end what you start."""

    def __init__(self, command: Sequence[str] = PROGRAM) -> None:
        self._command = command

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def start(self) -> Self:
        """Spawn it; see `ready`."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Above twice this asyncio stops reading the pipe and the child waits, so that it never runs far ahead.
            limit=_BUFFER_BYTES,
        )
        self._started = asyncio.create_task(self._frame())
        return self

    async def end(self) -> None:
        """Kill it, wherever it is."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        # The wait leaves no zombie. The first frame may never come now; gathered, its error counts as seen.
        await asyncio.gather(self._process.wait(), self._started, return_exceptions=True)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ready(self) -> bool:
        """Whether it has started, which takes it about 0.3 s: until then its caller can read by itself."""
        return self._started.done()

    async def read(self, source: Source, after: Cursor, last: int) -> AsyncGenerator[Batch, None]:
        """The batches after the cursor, as `EventLog.read` gives them; raises what it raises."""
        assert self._process.stdin is not None
        try:
            await self._started
            # JSON has no bytes, so the head travels as hex.
            request = [source, last, [*after[:2], after.head.hex(), *after[3:]]]
            self._process.stdin.write(orjson.dumps(request) + b"\n")
            while frame := await self._frame():
                kind, *content = self._content(frame)
                if kind == "error":
                    raise error_from(content[0])
                for place, voids, rows, terms in content:
                    began = tuple(Term(*term) for term in terms)
                    yield Batch(DecodedRecords(rows), Cursor(*place), voids, began=began)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise self._failed("ended too early") from None

    async def _frame(self) -> bytes:
        assert self._process.stdout is not None
        (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
        return await self._process.stdout.readexactly(length)

    def _content(self, frame: bytes) -> Any:
        try:
            return marshal.loads(frame)
        except (ValueError, EOFError, TypeError) as error:
            raise self._failed(f"wrote what cannot be read ({error})") from error

    @staticmethod
    def _failed(how: str) -> NotReady:
        return NotReady(f"the process that reads the log {how}; it is tried again")
