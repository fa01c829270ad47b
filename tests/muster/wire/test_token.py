"""Tokens as text, and how two of them become one."""

import pytest

from muster.wire.error import InvalidCommand
from muster.wire.token import Token, TokenPlace, format_token, merged, parse_token, without


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("", {}),
        ("0:5", {0: TokenPlace(5)}),
        ("0:1234@9f3a01bc,3:17", {0: TokenPlace(1234, "9f3a01bc"), 3: TokenPlace(17)}),
    ],
)
def test_a_token_is_a_text_with_and_without_marks(text: str, token: Token) -> None:
    assert parse_token(text) == token
    assert format_token(token) == text


@pytest.mark.parametrize(
    "text", ["x", "0:", "0:5@", "0:5@9f3a01b", "0:5@9F3A01BC", "0:5@9f3a01bc,", "0:-1", "٣:٤", " 0:5"]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidCommand):
        parse_token(text)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("0:5,1:2", "1:3,2:1", "0:5,1:3,2:1"),
        ("", "0:5", "0:5"),
        ("0:5@aaaaaaaa", "0:9@bbbbbbbb", "0:9@bbbbbbbb"),
        ("0:9@aaaaaaaa", "0:5@bbbbbbbb", "0:9@aaaaaaaa"),
        # Of two at one position the one that says whose it is, and else the one that came last.
        ("0:9@aaaaaaaa", "0:9", "0:9@aaaaaaaa"),
        ("0:9", "0:9@aaaaaaaa", "0:9@aaaaaaaa"),
        ("0:9@aaaaaaaa", "0:9@bbbbbbbb", "0:9@bbbbbbbb"),
    ],
)
def test_tokens_merge_by_partition(one: str, other: str, both: str) -> None:
    assert format_token(merged(parse_token(one), parse_token(other))) == both


def test_a_partition_is_left_out() -> None:
    assert without(parse_token("0:5,1:2@aaaaaaaa"), [1]) == parse_token("0:5")
