"""Times on the command line."""

from datetime import UTC, datetime

import pytest

from muster.cli.moment import moment

NOW = datetime(2026, 1, 31, 3, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("03:05", "2026-01-31T03:05:00Z"),
        ("3:05", "2026-01-31T03:05:00Z"),
        ("03:05:30", "2026-01-31T03:05:30Z"),
        ("03:15", "2026-01-30T03:15:00Z"),
        ("15m", "2026-01-31T02:57:30Z"),
        ("2h", "2026-01-31T01:12:30Z"),
        ("1d", "2026-01-30T03:12:30Z"),
        ("2026-01-31T05:05:00+02:00", "2026-01-31T03:05:00Z"),
    ],
)
def test_a_time_is_an_instant_one_of_the_day_or_some_time_ago(text: str, meant: str):
    assert moment(text, NOW) == datetime.fromisoformat(meant)


def test_the_end_of_a_span_comes_after_its_beginning():
    assert moment("03:15", NOW, after=moment("03:05", NOW)) == datetime(2026, 1, 31, 3, 15, tzinfo=UTC)
    assert moment("00:10", NOW, after=datetime(2026, 1, 30, 23, 50, tzinfo=UTC)) == datetime(
        2026, 1, 31, 0, 10, tzinfo=UTC
    )


@pytest.mark.parametrize("text", ["", "soon", "25:00", "2026-01-31T03:05:00", "-5m", "3:5"])
def test_what_is_no_time_is_refused_with_what_would_do(text: str):
    with pytest.raises(ValueError, match=r"03:05|offset"):
        moment(text, NOW)
