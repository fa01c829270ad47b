"""The Produce request in bytes of our own: the same that aiokafka's schemas make and read."""

from io import BytesIO

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.produce import ProduceRequest, ProduceRequest_v7, ProduceResponse_v7

from infra.kafka.produce import API, VERSION, Landed, Produce

EVENTS, LIVENESS = "muster.events", "müster.liveness"
BATCHES = {
    TopicPartition(EVENTS, 3): b"three",
    TopicPartition(LIVENESS, 3): b"",
    TopicPartition(EVENTS, 0): bytes(range(256)) * 4,
}
NEWEST = {API: (3, VERSION)}


def test_the_request_is_aiokafkas_byte_by_byte() -> None:
    topics = [(EVENTS, [(3, b"three"), (0, bytes(range(256)) * 4)]), (LIVENESS, [(3, b"")])]
    theirs = ProduceRequest(None, -1, 5_000, topics).prepare(NEWEST)
    ours = Produce(BATCHES, 5_000).prepare(NEWEST)
    assert isinstance(theirs, ProduceRequest_v7)
    assert ours.encode() == theirs.encode()
    assert ours.build_request_header(7, "client").encode() == theirs.build_request_header(7, "client").encode()


def test_the_answer_is_read_as_aiokafka_writes_it() -> None:
    topics = [(EVENTS, [(3, 0, 41, -1, 0), (0, 47, -1, -1, -1)]), (LIVENESS, [(3, 0, 2**40, -1, 7)])]
    answer = BytesIO(b"\0\0\0\7" + ProduceResponse_v7(topics, 0).encode())
    assert Produce(BATCHES, 5_000).parse_response_header(answer).correlation_id == 7
    assert Produce.RESPONSE_TYPE.decode(answer) == {
        TopicPartition(EVENTS, 3): Landed(0, 41),
        TopicPartition(EVENTS, 0): Landed(47, -1),
        TopicPartition(LIVENESS, 3): Landed(0, 2**40),
    }


@pytest.mark.parametrize("spoken", [(0, VERSION - 1), (VERSION + 1, VERSION + 9)])
def test_a_broker_that_does_not_speak_the_version_is_sent_nothing(spoken: tuple[int, int]) -> None:
    with pytest.raises(IncompatibleBrokerVersion, match=f"{spoken[0]} to {spoken[1]}, not {VERSION}"):
        Produce(BATCHES, 5_000).prepare({API: spoken})
