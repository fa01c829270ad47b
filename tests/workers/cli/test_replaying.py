"""Up to where a replay goes: what is a position, a token, a time, and what is none of them."""

from datetime import UTC, datetime
from typing import Any

import click
import pytest

from workers.cli.replaying import point_of


@pytest.mark.parametrize(
    ("said", "point"),
    [
        (None, {}),
        ("120", {"to_position": 120}),
        ("0:120,1:77", {"to_position": {0: 120, 1: 77}}),
        # As answers and watches say it.
        ("0:120@9f3a01bc,1:77@52c07e4d", {"to_position": {0: 120, 1: 77}}),
        ("2026-01-31T12:00:00Z", {"to_time": datetime(2026, 1, 31, 12, tzinfo=UTC)}),
    ],
)
def test_a_point_is_a_position_a_token_or_a_time(said: str | None, point: dict[str, Any]) -> None:
    assert point_of(said) == point


@pytest.mark.parametrize("said", ["yesterday", "0:120@x", "0:", "2026-01-31T12:00:00"])
def test_anything_else_is_refused(said: str) -> None:
    with pytest.raises(click.BadParameter):
        point_of(said)
