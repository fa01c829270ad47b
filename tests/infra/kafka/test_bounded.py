"""Compressed batches, as aiokafka makes them, before its consumer inflates them: the same records, or told to be too many."""

import random

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from infra.kafka.bounded import RefusedBatch, inflated

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD], ids=["gzip", "snappy", "lz4", "zstd"])
LIMIT = 1 << 20
MANY = 2_000


def batch(codec: int, *values: bytes, base: int = 0) -> bytes:
    """A batch as a producer has sent it and a broker has numbered it."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=True,
        producer_id=7,
        producer_epoch=3,
        base_sequence=5,
        batch_size=1 << 30,
    )
    for number, value in enumerate(values):
        assert builder.append(number, timestamp=1_000 + number, key=b"k", value=value, headers=[("a", b"b")])
    built = bytearray(builder.build())
    built[:8] = base.to_bytes(8, "big")
    return bytes(built)


def batches(content: bytes) -> list[tuple[int, int, int, bool, list[bytes]]]:
    """What aiokafka finds in it: next offset, producer, codec, whether it is a transaction's, and the values of the records."""
    memory, found = MemoryRecords(content), []
    while memory.has_next():
        one = memory.next_batch()
        assert one.validate_crc()
        codec = one.compression_type
        found.append((one.next_offset, one.producer_id, codec, one.is_transactional, [record.value for record in one]))
    return found


def bomb(codec: int, base: int = 0) -> bytes:
    return batch(codec, bytes(LIMIT), bytes(LIMIT), base=base)


@CODECS
def test_what_is_within_the_limit_keeps_its_records_and_has_nothing_left_to_inflate(codec: int) -> None:
    values = [random.Random(number).randbytes(number % 300) for number in range(MANY)]
    content, refused = inflated(batch(codec, *values, base=70) + batch(NONE, b"plain", base=70 + MANY), LIMIT)
    assert refused is None
    assert batches(content) == [(70 + MANY, 7, NONE, True, values), (71 + MANY, 7, NONE, True, [b"plain"])]


@CODECS
def test_a_batch_that_alone_is_too_large_leaves_its_offsets_and_is_told(codec: int) -> None:
    content, refused = inflated(bomb(codec, 40) + batch(codec, b"behind", base=42), LIMIT)
    assert batches(content) == [(42, 7, NONE, True, [])]
    assert isinstance(refused, RefusedBatch)
    assert (refused.first, refused.records) == (40, 2)
    assert "the batch of 2 commands from offset 40 on cannot be inflated within 1048576 bytes" in refused.error.detail
    # Where it ended: before the whole of it was there.
    assert refused.error.detail.endswith("it goes on" if codec in (GZIP, SNAPPY) else "failed to write whole buffer")


@CODECS
def test_what_is_too_large_together_comes_one_after_the_other(codec: int) -> None:
    half = bytes(LIMIT * 2 // 3)
    content, refused = inflated(batch(codec, half) + batch(codec, half, base=1) + bomb(codec, 2), LIMIT)
    assert (batches(content), refused) == ([(1, 7, NONE, True, [half])], None)
    assert inflated(batch(codec, b"a") + bomb(codec, 1), LIMIT)[1] is None, "first in the next answer, it is told"


@CODECS
def test_what_cannot_be_inflated_is_told_in_place_of_an_error_without_end(codec: int) -> None:
    content, refused = inflated(recomputed(batch(codec, b"a")[:61] + b"nonsense" * 3), LIMIT)
    assert batches(content) == [(1, 7, NONE, True, [])]
    assert refused is not None


def recomputed(damaged: bytes) -> bytes:
    """With the length and the checksum that a producer would have given it."""
    made = bytearray(damaged)
    made[8:12] = (len(made) - 12).to_bytes(4, "big")
    made[17:21] = calc_crc32c(bytes(made[21:])).to_bytes(4, "big")
    return bytes(made)


@CODECS
def test_what_has_another_checksum_is_left_to_aiokafka(codec: int) -> None:
    damaged = bytearray(bomb(codec))
    damaged[-1] ^= 1
    assert inflated(bytes(damaged), LIMIT) == (bytes(damaged), None)


def test_what_a_fetch_has_cut_off_stays_as_it_is() -> None:
    cut = batch(ZSTD, b"value" * 100)[:-1]
    assert inflated(cut, LIMIT) == (cut, None)
    assert batches(inflated(batch(ZSTD, b"a") + cut, LIMIT)[0]) == [(1, 7, NONE, True, [b"a"])]


def test_a_stream_of_snappy_whose_blocks_have_no_length_ends() -> None:
    for length in (bytes(4), b"\xff\xff\xff\xfc"):
        stream = b"\x82SNAPPY\0" + bytes(8) + length
        assert inflated(recomputed(batch(SNAPPY, b"a")[:61] + stream), LIMIT)[1] is not None
