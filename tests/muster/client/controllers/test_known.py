"""What a client is given, what it learns, and in which order a call asks: without a network."""

import math

import pytest

from muster import Client
from muster.client.controllers.known import KnownControllers, Misdirected, Way
from muster.wire.controllers import controllers_max, urls_of
from muster.wire.error import InvalidCommand, NotReady, Unreachable, WrongCluster


@pytest.mark.parametrize(
    "url",
    [
        "http://a:1,http://b:2/",
        " http://a:1 , http://b:2 ,",
        ["http://a:1", "http://b:2"],
        ("http://a:1/,http://b:2", "http://a:1"),
    ],
)
def test_several_urls_are_one_text_or_a_sequence(url: str | list[str]):
    assert urls_of(url) == ("http://a:1", "http://b:2")
    assert Client(url).urls == ("http://a:1", "http://b:2")


@pytest.mark.parametrize(
    "url",
    [
        "",
        ",",
        "127.0.0.1:8740",
        "ftp://a",
        "http://",
        "http://a:99999",
        "http://a b",
        "http://a\nb",
        "http://a/?b=c",
        [f"http://a:{number}" for number in range(1, controllers_max + 2)],
    ],
)
def test_what_is_no_address_of_a_controller_is_refused(url: str | list[str]):
    with pytest.raises(InvalidCommand, match="url"):
        Client(url)


def test_a_client_is_not_sent_to_its_own_machine_nor_from_https_to_http_nor_with_a_password():
    known = KnownControllers(["https://a"])
    told = [
        "http://b",
        "https://127.0.0.1:1",
        "https://localhost",
        "https://[::1]",
        "https://u:p@c",
        "nonsense",
        "https://d/",
    ]
    known.learn("https://a", told)
    assert known.urls == ("https://a", "https://d")
    near = KnownControllers(["http://127.0.0.1:1"])
    near.learn("http://127.0.0.1:1", ["http://127.0.0.1:2", "http://b"])
    assert near.urls == ("http://127.0.0.1:1", "http://127.0.0.1:2", "http://b")


def test_what_was_learned_is_replaced_by_what_is_learned_and_kept_when_nobody_is_named():
    known = KnownControllers(["http://a"])
    known.learn("http://a", ["http://a", "http://b"])
    known.answered("http://b")
    known.learn("http://b", [])
    assert known.urls == ("http://b", "http://a")
    known.learn("http://a", [f"http://c{number}" for number in range(100)])
    assert known.urls[:2] == ("http://a", "http://c0")
    assert len(known.urls) == 1 + controllers_max


def test_a_round_asks_each_once_even_when_others_change_the_order_meanwhile():
    known = KnownControllers(["http://a", "http://b", "http://c"])
    way, away = Way(known), Unreachable("away")
    assert (way.url, way.is_last) == ("http://a", False)
    assert way.failed("http://a", away) == 0.0
    known.answered("http://a")
    assert way.url == "http://b"
    assert way.failed("http://b", away) == 0.0
    assert (way.url, way.is_last) == ("http://c", True)
    assert 0.025 <= way.failed("http://c", away) <= 0.05
    assert way.url == "http://a"


def test_an_answer_of_the_round_before_counts_until_its_controller_has_failed_again():
    way = Way(KnownControllers(["http://a", "http://b"]))
    way.failed("http://a", Unreachable("a is away"))
    way.failed("http://b", NotReady("recovering"))
    way.failed("http://a", Unreachable("a is still away"))
    assert way.trouble.detail == "recovering"
    way.failed("http://b", Unreachable("b is away"))
    assert way.trouble.detail == "b is away"


def test_where_nobody_is_the_one_that_is_meant_waiting_mends_nothing():
    way = Way(KnownControllers(["http://a", "http://b"]))
    assert way.failed("http://a", Misdirected(WrongCluster("of another"))) == 0.0
    assert way.failed("http://b", Misdirected(WrongCluster("of another"))) == math.inf
    assert isinstance(way.trouble, WrongCluster)
