"""What clients saw, as bytes: what is read is what was said, nothing wrong leaves, and it is never taken for a sign of life."""

from typing import Any

import orjson
import pytest

from muster.wire.error import InvalidCommand
from muster.wire.telemetry.heartbeats import Beat, Heartbeats, decode
from muster.wire.telemetry.heartbeats import encode as encode_beats
from muster.wire.telemetry.observations import (
    Observation,
    Observations,
    decoded,
    document_of,
    encode,
    observations_of,
    observed_max,
)

SEEN = [Observation("users-1", 4, 310, 2, 0, 0.021), Observation("users-2", 9, 3, 3, 3)]
MESSAGE = Observations("web-5f3a", "users", 5.0, SEEN, "web-1")
PLAIN: dict[str, Any] = {
    "observer": "web-5f3a",
    "service": "users",
    "seconds": 5.0,
    "observed": [["users-1", 4, 310, 2, 0, 0.021], ["users-2", 9, 3, 3, 3]],
}


def test_what_is_read_is_what_was_said() -> None:
    assert decoded(encode(MESSAGE)) == MESSAGE
    assert observations_of(PLAIN) == MESSAGE._replace(host="")


def test_over_http_no_host_is_told() -> None:
    assert document_of(MESSAGE)["host"] == "web-1"
    assert "host" not in document_of(MESSAGE._replace(host=""))


def test_a_topic_holds_both_kinds() -> None:
    assert decoded(encode_beats("h", "users", [Beat("users-1", 4)])) == Heartbeats("h", "users", [Beat("users-1", 4)])


def test_a_reader_of_heartbeats_alone_takes_it_for_none() -> None:
    with pytest.raises(InvalidCommand):
        decode(encode(MESSAGE))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"observer": "no name"}, "observer"),
        ({"service": 5}, "service"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": 11}, "seconds"),
        ({"seconds": 0.09}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"host": 5}, "host"),
        ({"host": "x" * 300}, "host"),
        ({"observed": []}, "observed"),
        ({"observed": [["a", 0, 1, 0, 0]] * (observed_max + 1)}, "observed"),
        ({"observed": [5]}, "observed.0"),
        ({"observed": [["a", 0, 1, 0]]}, "observed.0"),
        ({"observed": [["a", 0, 1, 0, 0], ["a b", 0, 1, 0, 0]]}, "observed.1.instance"),
        ({"observed": [["a", True, 1, 0, 0]]}, "observed.0.incarnation"),
        ({"observed": [["a", 0, 1.5, 0, 0]]}, "observed.0.attempts"),
        ({"observed": [["a", 0, 0, 0, 0]]}, "observed.0.attempts"),
        ({"observed": [["a", 0, 1, 2, 0]]}, "observed.0.attempts"),
        ({"observed": [["a", 0, 1, -1, 0]]}, "observed.0.failures"),
        ({"observed": [["a", 0, 1, 0, "3"]]}, "observed.0.failing"),
        ({"observed": [["a", 0, 1, 0, 0, -1]]}, "observed.0.latency"),
        ({"more": 1}, "observations"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        decoded(orjson.dumps({**PLAIN, **change}))
    assert caught.value.context["field"] == field


def test_nothing_wrong_leaves() -> None:
    with pytest.raises(InvalidCommand):
        encode(MESSAGE._replace(observed=[]))
    with pytest.raises(InvalidCommand):
        decoded(b"{")
