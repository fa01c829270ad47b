"""Two readers of one partition: each record counts once, in the order of the topic, and none is missing."""

from hypothesis import given
from hypothesis import strategies as st

from domain.telemetry.merge import Merge


@given(
    began=st.integers(0, 20),
    committed=st.integers(0, 40),
    goal=st.integers(0, 30),
    turns=st.lists(st.sampled_from(["past", "stream", "write"]), max_size=300),
)
def test_whatever_the_order_each_record_counts_once_and_in_its_order(began, committed, goal, turns):
    merge = Merge()
    end = max(began, committed, goal) + 1  # The next offset to be written.
    merge.begin(began - 1, goal)
    past, stream, counted = began, committed, []
    for turn in turns:
        if turn == "write":
            end += 1
        elif turn == "past" and merge.reading and past < end:
            if merge.from_past(past):
                counted.append(past)
            past = max(past, merge.position) + 1
            merge.hand_over()
        elif turn == "stream" and stream < end:
            if merge.from_stream(stream):
                counted.append(stream)
            stream += 1
    assert counted == list(range(began, began + len(counted)))
    # With time enough for both, all is read, and the stream goes on alone.
    for _ in range(200):
        if merge.reading and past < end and merge.from_past(past):
            counted.append(past)
        past = max(past, merge.position) + 1 if merge.reading else past
        merge.hand_over()
        if stream < end:
            if merge.from_stream(stream):
                counted.append(stream)
            stream += 1
        else:
            end += 1
    assert not merge.reading
    assert counted == list(range(began, began + len(counted)))


def test_what_the_stream_brings_ahead_of_the_past_is_left_to_it():
    merge = Merge()
    merge.begin(-1, 5)
    assert not merge.from_stream(7)
    assert [merge.from_past(offset) for offset in range(8)] == [True] * 8
    assert merge.hand_over()
    assert merge.from_stream(8)


def test_the_stream_goes_on_alone_only_once_it_has_come_up():
    merge = Merge()
    merge.begin(-1, 5)
    for offset in range(8):
        merge.from_past(offset)
    assert not merge.hand_over(), "the stream is still far behind"
    assert [merge.from_stream(offset) for offset in (2, 3, 4, 5)] == [False] * 4
    assert merge.hand_over()
    assert [merge.from_stream(offset) for offset in (6, 7, 8)] == [False, False, True]


def test_a_new_assignment_is_a_new_stream():
    merge = Merge()
    merge.begin(-1, 1)
    merge.from_stream(10)
    merge.begin(9, 10)
    merge.from_past(10)
    assert not merge.hand_over()
