"""Which partition a stream lives in: the default partitioner of Kafka's Java client, over the root stream.

Other clients have other defaults: docs/kafka.md says what to set. A command that lands elsewhere is refused.
"""

from functools import lru_cache

from muster.wire.stream import root_of


@lru_cache(maxsize=65_536)
def partition_of(stream: str, partitions: int) -> int:
    """The partition (0 to `partitions` - 1) of the stream: murmur2 of its root's UTF-8 bytes."""
    if partitions == 1:
        return 0
    # Imported here: a log in one partition needs no Kafka client, nor does a caller that only reads names.
    from aiokafka.partitioner import murmur2

    # The sign bit is taken off, and the number not negated: so does Kafka's Java client, and all have to agree.
    return int(murmur2(root_of(stream).encode()) & 0x7FFFFFFF) % partitions
