"""Where a reign begins to read commands: in the topic that was read, behind what was read, or it says why not."""

import pytest

from workers.writer.commands_start import FoundTopic, Read, Start, start_of


@pytest.mark.parametrize(
    ("read", "found", "start"),
    [
        (Read("t", 5), FoundTopic("t", 0, 9), Start(5)),
        (Read("t", 5), FoundTopic("t", 5, 5), Start(5)),
        (Read(None, None), FoundTopic("t", 0, 9), Start(0)),
        (Read(None, 5), FoundTopic(None, 0, 9), Start(5)),
        (Read(None, 5), FoundTopic("t", 0, 9), Start(5)),
        (Read("t", 5), FoundTopic(None, 0, 9), Start(5)),
    ],
)
def test_it_goes_on_where_it_was(read: Read, found: FoundTopic, start: Start) -> None:
    assert start_of(read, found) == start


@pytest.mark.parametrize(
    ("read", "found", "offset", "lost", "said"),
    [
        (Read("t", 5), FoundTopic("u", 0, 9), 0, 0, "created anew: u, not t"),
        (Read("t", 5), FoundTopic("u", 3, 9), 3, 3, "its first 3 commands are gone unread"),
        (Read(None, 5), FoundTopic("u", 0, 3), 0, 0, "it is another one"),
        (Read("t", 5), FoundTopic(None, 0, 3), 0, 0, "it is another one"),
        (Read("t", 5), FoundTopic("t", 0, 3), 3, 0, "ends at 3, and was read up to 5"),
        (Read("t", 5), FoundTopic("t", 7, 9), 7, 2, "offsets 5 to 6 are gone unread"),
        (Read(None, None), FoundTopic("t", 4, 9), 4, 4, "4 commands were gone before the first was read"),
    ],
)
def test_nothing_is_skipped_in_silence(read: Read, found: FoundTopic, offset: int, lost: int, said: str) -> None:
    start = start_of(read, found)
    assert (start.offset, start.lost) == (offset, lost)
    assert start.why is not None
    assert said in start.why
