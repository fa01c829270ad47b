"""The child program that reads long stretches of a log: python -P -m infra.read_ahead

On its standard input it takes, for each reading, a line of JSON: [source, last, cursor]. The source is ("embedded", folder,
partition) or ("kafka", bootstrap, topic, partition, a fetch's bytes, seconds of silence). It takes one reading after another
until its input ends. It selects, parses, verifies and decodes the records, and writes whole batches to its standard output, in
the frames of `infra.log.ahead`, which is the parent's side.
"""

import asyncio
import gc
import marshal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from infra.kafka.reader import KafkaReader
from infra.log.ahead import LENGTH
from infra.log.decoded import row_of
from infra.log.port import Batch, Cursor
from infra.sqlite.engine import open_embedded
from muster.wire.error import Corrupt, NotReady
from muster.wire.problem import facts_of

_FRAME_RECORDS_MAX: Final = 200
_PIPE_BYTES: Final = 1 << 16


async def _serve(given: BinaryIO, out: BinaryIO) -> None:
    _write(out, ("started",))
    out.flush()
    for request in given:
        source, last, (position, head_position, head, term, writer) = orjson.loads(request)
        after = Cursor(position, head_position, bytes.fromhex(head), term, writer)
        try:
            await _copy(_reading(source, after, last), out)
        except (Corrupt, NotReady) as error:
            _write(out, ("error", facts_of(error)))
        out.write(LENGTH.pack(0))
        out.flush()


async def _reading(source: list[Any], after: Cursor, last: int) -> AsyncGenerator[Batch, None]:
    match source:
        case ["embedded", folder, partition]:
            async with open_embedded(Path(folder), read_only=True, alone=True) as engine:
                async for batch in engine.logs[partition].read(after):
                    yield batch
        case ["kafka", bootstrap, topic, partition, fetch_bytes_max, stuck_seconds]:
            reader = KafkaReader(bootstrap, topic, partition, fetch_bytes_max, stuck_seconds, {})
            async for batch in reader.read(after, last + 1):
                yield batch


async def _copy(reading: AsyncGenerator[Batch, None], out: BinaryIO) -> None:
    batches, count = [], 0
    try:
        async with aclosing(reading):
            async for batch in reading:
                rows = [row_of(position, document) for position, document in batch.records]
                batches.append((tuple(batch.cursor), batch.voids, rows, tuple(map(tuple, batch.began))))
                count += 1 + len(rows)
                if count > _FRAME_RECORDS_MAX:
                    _write(out, ("batches", *batches))
                    batches, count = [], 0
    finally:
        # Also when the reading fails: the batches before the damage are history, and the parent gets them before
        # the error.
        _write(out, ("batches", *batches))


def _write(out: BinaryIO, frame: tuple[Any, ...]) -> None:
    content = marshal.dumps(frame)
    out.write(LENGTH.pack(len(content)))
    out.write(content)


def main() -> None:
    """Serve readings."""
    gc.disable()  # Nothing here goes in circles; looking for some would take a twentieth of the time.
    # Not `sys.stdout.buffer`: with PYTHONUNBUFFERED that is the bare file, whose interrupted writes lose what is left of them.
    with open(sys.stdout.fileno(), "wb", buffering=_PIPE_BYTES, closefd=False) as out:
        asyncio.run(_serve(sys.stdin.buffer, out))


if __name__ == "__main__":
    main()
