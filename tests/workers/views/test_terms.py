"""Whose history a token is of, and the token of views."""

import pytest

from infra.log.port import START, Cursor, Term
from muster.wire.error import OtherLog
from muster.wire.token import TokenPlace, parse_token
from workers.views.terms import Terms
from workers.views.views import Views

TERMS = Terms([Term(1, 1, "aaaaaaaa"), Term(5, 2, "bbbbbbbb"), Term(9, 3, "cccccccc")])


def cursor(position: int, term: int = 1) -> Cursor:
    return Cursor(position, position, START.head, term, "w")


def test_a_position_is_of_the_term_that_reigned_there() -> None:
    assert [TERMS.place(position).term[:1] for position in (0, 1, 4, 5, 8, 9, 20)] == ["", "a", "a", "b", "b", "c", "c"]


@pytest.mark.parametrize(
    ("place", "is_strange"),
    [
        (TokenPlace(7, "bbbbbbbb"), False),
        (TokenPlace(7, "aaaaaaaa"), True),
        (TokenPlace(7, "dddddddd"), True),
        (TokenPlace(0, "aaaaaaaa"), True),
        (TokenPlace(7), False),
        # Ahead of a view that has come to 12: of its newest term, of one that is still to be read, of one that has ended.
        (TokenPlace(20, "cccccccc"), False),
        (TokenPlace(20, "dddddddd"), False),
        (TokenPlace(20, "bbbbbbbb"), True),
    ],
)
def test_a_place_of_another_history_is_told_apart_as_far_as_can_be_known(place: TokenPlace, is_strange: bool) -> None:
    assert TERMS.contradict(place, reached=12) == is_strange


def test_views_tell_their_token_with_the_term_of_each_partition() -> None:
    views = Views([0, 1, 2])
    assert views.token() == ""
    views.apply(1, (), cursor(0), began=[Term(0, 1, "aaaaaaaa")])
    # Only foreign bytes stand in this one: of no history nothing can be seen.
    views.apply(2, (), Cursor(4, -1, START.head, 0, ""), voids=5)
    assert views.token() == "1:0@aaaaaaaa"
    views.apply(0, (), cursor(7, 2), began=[Term(2, 1, "bbbbbbbb"), Term(7, 2, "cccccccc")])
    views.apply(1, (), cursor(3))
    assert views.token() == "0:7@cccccccc,1:3@aaaaaaaa"
    assert views.token() is views.token()


def test_views_refuse_a_token_of_another_log_and_name_the_partition() -> None:
    views = Views([0, 1])
    for partition in (0, 1):
        views.apply(partition, (), cursor(3), began=[Term(0, 1, "aaaaaaaa")])
    views.check(parse_token("0:3@aaaaaaaa,1:9@aaaaaaaa"))
    with pytest.raises(OtherLog) as refused:
        views.check(parse_token("0:3@aaaaaaaa,1:2@dddddddd"))
    assert refused.value.context == {"partition": 1}


def test_a_position_that_was_not_reached_has_no_mark() -> None:
    views = Views([0])
    views.apply(0, (), cursor(3), began=[Term(0, 1, "aaaaaaaa")])
    assert (views.place(0, 3), views.place(0, 4), views.place(7, 0)) == (
        TokenPlace(3, "aaaaaaaa"),
        TokenPlace(4),
        TokenPlace(0),
    )
