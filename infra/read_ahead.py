"""Reading a long stretch of a log in a process of its own, so that a start uses both cores.

    python -m infra.read_ahead      and then, on its standard input, for each reading a line of JSON: [source, last, cursor]

The child says when it has started, and takes one reading after another until its input ends. It selects, parses, verifies and
decodes the records, and writes whole batches to its standard output: frames of 4 bytes of length and a marshalled
("batches", (cursor, voids, rows), ...), the last one empty; for rows see `infra.log.decoded`. An error is a frame, too.
"""

import asyncio
import gc
import marshal
import struct
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import orjson

from infra.log.decoded import DecodedRecords, row_of
from infra.log.port import Batch, Cursor
from muster.wire.error import BY_NAME, Corrupt, NotReady

records_min: Final = 50_000
patience_seconds: Final = 1.0
_LENGTH: Final = struct.Struct(">I")
_BUFFER_BYTES: Final = 1 << 22
_FRAME_RECORDS_MAX: Final = 200
_PIPE_BYTES: Final = 1 << 16

Source = tuple[str | int | float, ...]
"""Where: ("embedded", folder, partition) or ("kafka", bootstrap, topic, partition, a fetch's bytes, seconds of silence)."""

Read = Callable[[Cursor], AsyncGenerator[Batch, None]]


def is_long(after: Cursor, last: int) -> bool:
    """Whether what stands behind the cursor is worth the start of a child."""
    return last - after.position >= records_min


class ReadAhead:
    """The long readings of an engine, of all its partitions: one after another through one child, which runs while they last.

    One at a time, since who folds what a child reads is kept busy by one.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._taken_at = 0.0
        self._child: Child | None = None

    async def read(self, source: Source, here: Read, after: Cursor, last: int) -> AsyncGenerator[Batch, None]:
        """The batches behind the cursor up to position `last`, of which the child reads what `here` has not read before
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
            if not (done and self._waiting):  # What a child still has to say of this reading is for nobody else.
                await self._end()

    async def _both(self, source: Source, here: Read, after: Cursor, last: int) -> AsyncGenerator[Batch, None]:
        child = self._child
        if child is None:
            child = self._child = await Child().start()
            async with aclosing(here(after)) as batches:
                async for batch in batches:
                    yield batch
                    after = batch.cursor
                    if child.ready:
                        break
        if after.position < last:
            async with aclosing(child.read(source, after, last)) as batches:
                async for batch in batches:
                    yield batch

    async def _our_turn(self) -> bool:
        """Wait for the child. False: whoever has it has not taken anything for a while, and may be waiting for us."""
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

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def start(self) -> Self:
        """Spawn it; see `ready`."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.read_ahead"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_BUFFER_BYTES,
        )
        self._started = asyncio.create_task(self._frame())
        return self

    async def end(self) -> None:
        """Kill it, wherever it is."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
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
        """The batches behind the cursor, as `EventLog.read` gives them; raises what it raises."""
        assert self._process.stdin is not None
        try:
            await self._started
            request = [source, last, [*after[:2], after.head.hex(), *after[3:]]]
            self._process.stdin.write(orjson.dumps(request) + b"\n")
            while frame := await self._frame():
                kind, *content = self._content(frame)
                if kind == "error":
                    name, detail, context = content
                    raise BY_NAME[name](detail, **context)
                for place, voids, rows in content:
                    yield Batch(DecodedRecords(rows), Cursor(*place), voids)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise self._failed("ended too early") from None

    async def _frame(self) -> bytes:
        assert self._process.stdout is not None
        (length,) = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))
        return await self._process.stdout.readexactly(length)

    def _content(self, frame: bytes) -> Any:
        try:
            return marshal.loads(frame)
        except (ValueError, EOFError, TypeError) as error:
            raise self._failed(f"wrote what cannot be read ({error})") from error

    @staticmethod
    def _failed(how: str) -> NotReady:
        return NotReady(f"the process that reads the log {how}; it is tried again")


async def _serve(given: BinaryIO, out: BinaryIO) -> None:
    _write(out, ("started",))
    out.flush()
    for request in given:
        source, last, (position, head_position, head, term, writer) = orjson.loads(request)
        after = Cursor(position, head_position, bytes.fromhex(head), term, writer)
        try:
            await _copy(_reading(source, after, last), out)
        except (Corrupt, NotReady) as error:
            _write(out, ("error", error.name, error.detail, error.context))
        out.write(_LENGTH.pack(0))
        out.flush()


async def _reading(source: list[Any], after: Cursor, last: int) -> AsyncGenerator[Batch, None]:
    # Only the child needs an engine, and only one; importing them above would be a circle.
    match source:
        case ["embedded", folder, partition]:
            from infra.sqlite.engine import open_embedded

            async with open_embedded(Path(folder), read_only=True, alone=True) as engine:
                async for batch in engine.logs[partition].read(after):
                    yield batch
        case ["kafka", bootstrap, topic, partition, fetch_bytes_max, stuck_seconds]:
            from infra.kafka.reader import KafkaReader

            reader = KafkaReader(bootstrap, topic, partition, fetch_bytes_max, stuck_seconds, {})
            async for batch in reader.read(after, last + 1):
                yield batch


async def _copy(reading: AsyncGenerator[Batch, None], out: BinaryIO) -> None:
    batches, count = [], 0
    try:
        async with aclosing(reading):
            async for batch in reading:
                rows = [row_of(position, document) for position, document in batch.records]
                batches.append((tuple(batch.cursor), batch.voids, rows))
                count += 1 + len(rows)
                if count > _FRAME_RECORDS_MAX:
                    _write(out, ("batches", *batches))
                    batches, count = [], 0
    finally:
        _write(out, ("batches", *batches))


def _write(out: BinaryIO, frame: tuple[Any, ...]) -> None:
    content = marshal.dumps(frame)
    out.write(_LENGTH.pack(len(content)))
    out.write(content)


def main() -> None:
    """Serve readings."""
    gc.disable()  # Nothing here goes in circles; looking for some would take a twentieth of the time.
    # Not `sys.stdout.buffer`: with PYTHONUNBUFFERED that is the bare file, whose interrupted writes lose what is left of them.
    with open(sys.stdout.fileno(), "wb", buffering=_PIPE_BYTES, closefd=False) as out:
        asyncio.run(_serve(sys.stdin.buffer, out))


if __name__ == "__main__":
    main()
