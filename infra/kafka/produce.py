"""Kafka's Produce request and its answer as bytes, in the place of aiokafka's: an append has few fields.

aiokafka's schemas make an object of each message and walk through its fields one by one. Its connection asks of a request only
what `Produce` has.
"""

from collections.abc import Mapping
from io import BytesIO
from struct import Struct
from typing import Final, NamedTuple, Self

from aiokafka import TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion

API: Final = 0
VERSION: Final = 7  # Since Kafka 2.1; the newest one that aiokafka speaks.
_ALL_REPLICAS: Final = -1
_NO_TRANSACTION: Final = -1

_HEADER: Final = Struct(">hhih")  # API, version, correlation id, length of the client's name
_BEGINNING: Final = Struct(">hhii")  # transactional id, acks, timeout, number of topics
_COUNT: Final = Struct(">i")
_LENGTH: Final = Struct(">h")
_BATCH: Final = Struct(">ii")  # partition, length of the batch
_LANDED: Final = Struct(">ihqqq")  # partition, error, offset, time, start of the log


class Landed(NamedTuple):
    """What became of a batch: an error's code or 0, and the offset of its first record."""

    code: int
    offset: int


class ProduceAnswer:
    """The broker's answer to a Produce request. aiokafka finds it as the request's `RESPONSE_TYPE`."""

    @staticmethod
    def decode(rest: BytesIO) -> dict[TopicPartition, Landed]:
        """What the broker says of each partition; `rest` is what follows the header."""
        landed: dict[TopicPartition, Landed] = {}
        for _ in range(_taken(_COUNT, rest)):
            topic = rest.read(_taken(_LENGTH, rest)).decode()
            for number, code, offset, _, _ in _LANDED.iter_unpack(rest.read(_taken(_COUNT, rest) * _LANDED.size)):
                landed[TopicPartition(topic, number)] = Landed(code, offset)
        return landed


class Header(NamedTuple):
    """What stands before an answer."""

    correlation_id: int


class _Encoded(NamedTuple):
    content: bytes

    def encode(self) -> bytes:
        return self.content


class Produce:
    """One record batch for each of the partitions, to be answered when all replicas in sync have it."""

    RESPONSE_TYPE = ProduceAnswer

    def __init__(self, batches: Mapping[TopicPartition, bytes], timeout_ms: int) -> None:
        self._batches = batches
        self._timeout_ms = timeout_ms

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Self:
        """The request for a broker that speaks these versions of each API. Raises IncompatibleBrokerVersion."""
        oldest, newest = versions[API]
        if not oldest <= VERSION <= newest:
            raise IncompatibleBrokerVersion(f"the broker takes Produce {oldest} to {newest}, not {VERSION}")
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> _Encoded:
        """What stands before the request."""
        name = client_id.encode()
        return _Encoded(_HEADER.pack(API, VERSION, correlation_id, len(name)) + name)

    def encode(self) -> bytes:
        """The request without its header."""
        topics: dict[str, list[bytes]] = {}
        for (topic, number), batch in self._batches.items():
            topics.setdefault(topic, []).append(_BATCH.pack(number, len(batch)) + batch)
        content = [_BEGINNING.pack(_NO_TRANSACTION, _ALL_REPLICAS, self._timeout_ms, len(topics))]
        for topic, parts in topics.items():
            name = topic.encode()
            content += (_LENGTH.pack(len(name)), name, _COUNT.pack(len(parts)), *parts)
        return b"".join(content)

    @staticmethod
    def parse_response_header(answer: BytesIO) -> Header:
        """Take the header off the answer."""
        return Header(_taken(_COUNT, answer))


def _taken(number: Struct, answer: BytesIO) -> int:
    (value,) = number.unpack(answer.read(number.size))
    return int(value)
