"""Reading a long stretch of an embedded log in a process of its own, so that a start uses both cores.

    python -m infra.read_ahead FOLDER PARTITION      and then, on its standard input, CURSOR as a JSON list

The child says when it has started and takes the cursor. It selects, parses, verifies and decodes the records, and writes
whole batches to its standard output: frames of 4 bytes of length and a marshalled ("batches", (cursor, voids, rows), ...), the
last one empty; for rows see `infra.decoded`.
"""

import asyncio
import gc
import marshal
import struct
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from domain.error import BY_NAME, Corrupt, NotReady
from infra.decoded import DecodedRecords, row_of
from infra.log import Batch, Cursor, EventLog

_LENGTH: Final = struct.Struct(">I")
_BUFFER_BYTES: Final = 1 << 22
_FRAME_RECORDS_MAX: Final = 200
_PIPE_BYTES: Final = 1 << 16


class ReadAhead:
    """The child, for one reading. Use as `async with ReadAhead(folder, partition) as ahead`."""

    def __init__(self, folder: Path, partition: int) -> None:
        self._folder, self._partition = folder, partition

    async def __aenter__(self) -> "ReadAhead":
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.read_ahead", str(self._folder), str(self._partition)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_BUFFER_BYTES,
        )
        self._started = asyncio.create_task(self._frame())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._child.returncode is None:
            self._child.kill()
        await asyncio.gather(self._child.wait(), self._started, return_exceptions=True)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def ready(self) -> bool:
        """Whether the child has started, which takes it about 0.3 s: until then its caller can read by itself."""
        return self._started.done()

    async def read(self, after: Cursor, end: int = -1) -> AsyncGenerator[Batch, None]:
        """The batches behind the cursor, as `EventLog.read` gives them; raises what it raises. `end`: the last position."""
        assert self._child.stdin is not None
        try:
            await self._started
            self._child.stdin.write(orjson.dumps([*after[:2], after.head.hex(), *after[3:]]) + b"\n")
            while frame := await self._frame():
                kind, *content = self._content(frame)
                if kind == "error":
                    name, detail, context = content
                    raise BY_NAME[name](detail, **context)
                for place, voids, rows in content:
                    cursor = Cursor(*place)
                    yield Batch(DecodedRecords(rows), cursor, voids, max(0, end - cursor.position))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise self._failed("ended too early") from None

    async def _frame(self) -> bytes:
        assert self._child.stdout is not None
        (length,) = _LENGTH.unpack(await self._child.stdout.readexactly(_LENGTH.size))
        return await self._child.stdout.readexactly(length)

    def _content(self, frame: bytes) -> Any:
        try:
            return marshal.loads(frame)
        except (ValueError, EOFError, TypeError) as error:
            raise self._failed(f"wrote what cannot be read ({error})") from error

    def _failed(self, how: str) -> NotReady:
        return NotReady(
            f"the reader of partition {self._partition} {how}; it is tried again", partition=self._partition
        )


async def _serve(folder: Path, partition: int, given: BinaryIO, out: BinaryIO) -> None:
    # Only the child needs the engine; importing it above would be a circle.
    from infra.embedded import open_embedded

    _write(out, ("started",))
    out.flush()
    position, head_position, head, term, writer = orjson.loads(given.readline())
    after = Cursor(position, head_position, bytes.fromhex(head), term, writer)
    async with open_embedded(folder, read_only=True, alone=True) as engine:
        try:
            await _copy(engine.logs[partition], after, out)
        except Corrupt as error:
            _write(out, ("error", error.name, error.detail, error.context))
    out.write(_LENGTH.pack(0))
    out.flush()


async def _copy(log: EventLog, after: Cursor, out: BinaryIO) -> None:
    batches, count = [], 0
    try:
        async for batch in log.read(after):
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
    """Serve one reading."""
    gc.disable()  # Nothing here goes in circles; looking for some would take a twentieth of the time.
    # Not `sys.stdout.buffer`: with PYTHONUNBUFFERED that is the bare file, whose interrupted writes lose what is left of them.
    with open(sys.stdout.fileno(), "wb", buffering=_PIPE_BYTES, closefd=False) as out:
        asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), sys.stdin.buffer, out))


if __name__ == "__main__":
    main()
