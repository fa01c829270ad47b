"""Heartbeats on the wire: what is written is read again, and what is wrong is named."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.wire.error import InvalidCommand
from muster.wire.telemetry.heartbeats import Beat, Heartbeats, beats_of, decode, encode, items_max

numbers = st.none() | st.integers(0, 10**12) | st.floats(0, 1e12)
beats = st.builds(Beat, st.sampled_from(["a", "b-1", "c.2"]), st.integers(0, 2**53), numbers, numbers, numbers, numbers)


@given(st.lists(beats, min_size=1, max_size=20))
def test_what_is_written_is_read_again(told: list[Beat]) -> None:
    assert decode(encode("host-7", "orders", told)) == Heartbeats("host-7", "orders", told)


def test_an_item_is_as_short_as_what_is_known() -> None:
    told = encode("h", "orders", [Beat("a", 4), Beat("b", 9, 3), Beat("c", 1, None, 2.5)])
    assert orjson.loads(told)["items"] == [["a", 4], ["b", 9, 3], ["c", 1, None, 2.5]]


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([], "items"),
        ("a", "items"),
        ([["a", 1]] * (items_max + 1), "items"),
        ([["a"]], "items.0"),
        ([["a", 1], ["b", 1, 1, 1, 1, 1, 1]], "items.1"),
        ([["a", 1], {"instance": "b"}], "items.1"),
        ([["a/b", 1]], "items.0.instance"),
        ([["a\n", 1]], "items.0.instance"),
        ([[7, 1]], "items.0.instance"),
        ([["a", -1]], "items.0.incarnation"),
        ([["a", True]], "items.0.incarnation"),
        ([["a", 1.0]], "items.0.incarnation"),
        ([["a", 1, -1]], "items.0.in_flight"),
        ([["a", 1, "3"]], "items.0.in_flight"),
        ([["a", 1, 3, True]], "items.0.per_second"),
        ([["a", 1, 3, 2.0, 1e13]], "items.0.failures"),
        ([["a", 1], ["b", 1, 3, 2.0, 0, -0.1]], "items.1.utilisation"),
        ([["a\nb", 1], ["c", 2]], "items.0.instance"),
    ],
)
def test_a_wrong_item_is_named(items: object, field: str) -> None:
    with pytest.raises(InvalidCommand) as refused:
        beats_of(items)
    assert refused.value.context["field"] == field


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b"{", "heartbeats"),
        (b"[]", "heartbeats"),
        (b'{"agent": "a", "service": "s"}', "heartbeats"),
        (b'{"agent": "a", "service": "s", "items": [["a", 1]], "more": 1}', "heartbeats"),
        (b'{"agent": "", "service": "s", "items": [["a", 1]]}', "agent"),
        (b'{"agent": "a", "service": "s/t", "items": [["a", 1]]}', "service"),
    ],
)
def test_a_wrong_message_is_named(value: bytes, field: str) -> None:
    with pytest.raises(InvalidCommand) as refused:
        decode(value)
    assert refused.value.context["field"] == field


def test_nothing_wrong_leaves() -> None:
    with pytest.raises(InvalidCommand):
        encode("h", "orders", [Beat("a", -1)])
