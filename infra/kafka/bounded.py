"""Compressed record batches of a topic that anybody may publish to: inflated here, as far as a limit allows.

    broker ──answer to a fetch──▶ bounded ──the same batches, uncompressed──▶ aiokafka's consumer ──▶ records

A batch of a few KB can be one of hundreds of MB. aiokafka inflates it whole, whatever it is; what comes out here has nothing
left to inflate. A batch that alone is over the limit is replaced by an empty one with its offsets, as compaction leaves them,
so that the consumer goes on behind it, and whoever reads is told.
"""

import asyncio
import mmap
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import cramjam
from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.util import calc_crc32c

from muster.wire.error import TooLarge

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
"""Of a record batch, version 2: base offset, length behind it, leader's epoch, magic, CRC, attributes, last offset's delta, first
and newest timestamp, producer's id, epoch and first sequence, number of records.
"""
_LENGTH_AT: Final = 12
_CHECKED_AT: Final = 21
"""The length counts what stands behind byte 12; the CRC is of what stands behind byte 21."""
_VERSION: Final = 2
_CODEC: Final = 0x07
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_XERIAL: Final = b"\x82SNAPPY\0"
_XERIAL_HEAD_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class RefusedBatch:
    """A batch that was not inflated: its first offset, how many records it says to have, and why."""

    first: int
    records: int
    error: TooLarge


def bound(consumer: AIOKafkaConsumer, bytes_max: int, refused: Callable[[RefusedBatch], None]) -> None:
    """Let no answer to a fetch of this consumer hold more than `bytes_max` once it is inflated; call it before `start`.

    `refused` is called on the event loop with each batch that alone is larger, or is damaged. Its offsets are passed over.
    """
    # The consumer has no place for this of its own. Its client answers the fetcher alone, and each in its turn.
    client = consumer._client
    send = client.send

    async def sent(node: int, request: object, **options: object) -> object:
        answer = await send(node, request, **options)
        if isinstance(request, FetchRequest):
            answer.topics = [
                (topic, [await within(*parts) for parts in partitions]) for topic, partitions in answer.topics
            ]
        return answer

    async def within(*parts: object) -> tuple[object, ...]:
        *facts, content = parts
        if isinstance(content, bytes) and any(_is_compressed(header) for _, _, header in _batches(content)):
            # Inflating 16 MiB takes up to 0.1 s, in which the event loop goes on.
            content, found = await asyncio.to_thread(inflated, content, bytes_max)
            if found is not None:
                refused(found)
        return (*facts, content)

    client.send = sent


def inflated(content: bytes, bytes_max: int) -> tuple[bytes, RefusedBatch | None]:
    """The batches at the beginning that have `bytes_max` together, uncompressed, and the first one if it alone has more.

    Those behind are left out: they come with the next fetch.
    """
    parts: list[bytes | bytearray] = []
    left = bytes_max
    for start, end, header in _batches(content):
        try:
            part = _uncompressed(content[start:end], header, left)
        except TooLarge as error:
            if parts:
                break
            return bytes(_batch(header, b"")), RefusedBatch(header[0], header[12], error)
        parts.append(part)
        left = max(1, left - len(part))
    # Without a whole batch, aiokafka says itself what is wrong.
    return (b"".join(parts), None) if parts else (content, None)


def _batches(content: bytes) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Where each whole batch begins and ends, and its header; the last one may be cut off."""
    start = 0
    while start + _HEADER.size <= len(content):
        header = _HEADER.unpack_from(content, start)
        end = start + _LENGTH_AT + header[1]
        if end > len(content) or header[1] < _HEADER.size - _LENGTH_AT:
            return
        yield start, end, header
        start = end


def _is_compressed(header: tuple[int, ...]) -> bool:
    return header[3] == _VERSION and header[5] & _CODEC != 0


def _uncompressed(batch: bytes, header: tuple[int, ...], bytes_max: int) -> bytes | bytearray:
    """The batch without compression. Raises TooLarge."""
    # What does not have its checksum is aiokafka's to refuse, before it inflates anything.
    if not _is_compressed(header) or calc_crc32c(memoryview(batch)[_CHECKED_AT:]) != header[4]:
        return batch
    # Memory that is taken only where something is written, and given back at once.
    room = memoryview(mmap.mmap(-1, bytes_max))
    try:
        size = _inflate(header[5] & _CODEC, memoryview(batch)[_HEADER.size :], room)
    except (cramjam.DecompressionError, zlib.error, ValueError, struct.error) as error:
        raise TooLarge(
            f"the batch of {header[12]} commands from offset {header[0]} on cannot be inflated within {bytes_max} bytes: {error}",
            limit=bytes_max,
        ) from None
    return _batch(header, room[:size])


def _inflate(codec: int, payload: memoryview, room: memoryview) -> int:
    """Write what the payload inflates to, and return its length. Raises one of the errors above, also where the room ends."""
    if codec == _ZSTD:
        return int(cramjam.zstd.decompress_into(payload, room))
    if codec == _LZ4:
        return int(cramjam.lz4.decompress_into(payload, room))
    if codec == _GZIP:
        return _gunzip(payload, room)
    if codec == _SNAPPY:
        return _unsnap(payload, room)
    raise ValueError(f"there is no compression of number {codec}")


def _gunzip(payload: memoryview, room: memoryview) -> int:
    member = zlib.decompressobj(wbits=31)
    found = member.decompress(payload, len(room))
    # Producers write one member. Others behind it, of a few bytes each, could be hundreds of thousands.
    if not member.eof or member.unused_data:
        raise ValueError("it goes on")
    room[: len(found)] = found
    return len(found)


def _unsnap(payload: memoryview, room: memoryview) -> int:
    size = 0
    for block in _snappy_blocks(payload):
        length = cramjam.snappy.decompress_raw_len(block)
        # Before it is inflated: what is allocated for it is what it says to have.
        if length > len(room) - size:
            raise ValueError("it goes on")
        room[size : size + length] = bytes(cramjam.snappy.decompress_raw(block))
        size += length
    return size


def _snappy_blocks(payload: memoryview) -> Iterator[memoryview]:
    """One block, or those of a stream as Java's producers write it: before each its length."""
    if bytes(payload[: len(_XERIAL)]) != _XERIAL:
        yield payload
        return
    at = _XERIAL_HEAD_BYTES
    while at < len(payload):
        (length,) = struct.unpack_from(">i", payload, at)
        at += 4
        # A block of no length, or of less, cannot be inflated: that ends it.
        yield payload[at : at + length]
        at += length


def _batch(header: tuple[int, ...], records: bytes | memoryview) -> bytearray:
    """An uncompressed batch with this header's offsets, producer and times; without records, an empty one."""
    base, _, leader, magic, _, attributes, *rest, count = header
    whole = bytearray(_HEADER.size + len(records))
    length, count = len(whole) - _LENGTH_AT, count if records else 0
    _HEADER.pack_into(whole, 0, base, length, leader, magic, 0, attributes & ~_CODEC, *rest, count)
    whole[_HEADER.size :] = records
    crc = calc_crc32c(memoryview(whole)[_CHECKED_AT:])
    _HEADER.pack_into(whole, 0, base, length, leader, magic, crc, attributes & ~_CODEC, *rest, count)
    return whole
