"""Which signs of life count."""

import orjson
import pytest

from workers.peers.cluster_key import ClusterKey
from workers.peers.members import Member
from workers.peers.roll_call import (
    RollCall,
    Sign,
    StrangeSign,
    name_chars_max,
    names_max,
    sign_bytes_max,
    signs_behind_max,
)

KEY, OTHER_KEY = ClusterKey(b"k" * 32), ClusterKey(b"o" * 32)
TOPIC = "muster.controllers"


def roll(name: str, key: ClusterKey = KEY, topic: str = TOPIC) -> RollCall:
    return RollCall(key, topic, Member(name, f"http://{name}:8740"))


def say(speaker: RollCall, *hearers: RollCall, state: str = "ready") -> bytes:
    """The next sign of the speaker, which comes back to it and to the others."""
    sign = speaker.sign(state)
    for one in (speaker, *hearers):
        one.hear(sign)
    return sign


def met(*names: str) -> list[RollCall]:
    """Controllers that have heard each other."""
    rolls = [roll(name) for name in names]
    for _ in range(2):
        for one in rolls:
            say(one, *(other for other in rolls if other is not one))
    return rolls


def test_two_who_hear_each_other_count() -> None:
    anna, bert = met("anna", "bert")
    assert anna.hear(bert.sign("ready")) == Sign(bert.self_, "ready")
    assert bert.hear(anna.sign("joining")) == Sign(anna.self_, "joining")


def test_our_own_sign_counts_once_and_only_if_we_have_sent_it() -> None:
    anna, twin = roll("anna"), roll("anna")
    sign = anna.sign("ready")
    assert anna.hear(twin.sign("ready")) == Sign(anna.self_, "ready")
    assert anna.hear(sign) is None
    assert anna.hear(twin.sign("ready")) is None
    assert anna.hear(anna.sign("ready")) == Sign(anna.self_, "ready")


@pytest.mark.parametrize("maker", [roll("bert", OTHER_KEY), roll("bert", topic="another.controllers")])
def test_a_sign_of_another_key_or_topic_is_strange(maker: RollCall) -> None:
    assert roll("anna").hear(maker.sign("ready")) == StrangeSign("bert", "http://bert:8740")


@pytest.mark.parametrize(
    "change",
    [{"controller": "carl"}, {"url": "http://evil"}, {"state": "leaving"}, {"number": 99}, {"heard": {}}, {"more": 1}],
)
def test_each_field_is_proven(change: dict[str, object]) -> None:
    anna, bert = met("anna", "bert")
    sign = orjson.loads(bert.sign("ready"))
    assert isinstance(anna.hear(orjson.dumps(sign | change)), StrangeSign)
    assert anna.hear(orjson.dumps(dict(reversed(sign.items())), option=orjson.OPT_INDENT_2)) == Sign(
        bert.self_, "ready"
    )


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b'{"controller": "other", "url": "http://other", "state": "ready"}',
        b'{"controller": "other", "url": "http://other", "state": "ready", "hmac": null}',
        '{"controller": "other", "url": "http://other", "state": "ready", "hmac": "é"}'.encode(),
        b'{"controller": ["other"], "url": 7, "state": {}, "hmac": ""}',
        b'{"controller": "a\\nb", "url": "http://other", "state": "ready"}',
        b" " * (sign_bytes_max + 1),
    ],
)
def test_what_anybody_may_write_to_the_topic_is_strange(value: bytes) -> None:
    found = roll("anna").hear(value)
    assert isinstance(found, StrangeSign)
    assert found.name in ("", "other")


def test_what_a_strange_sign_claims_is_cut_to_what_can_be_shown() -> None:
    found = roll("anna").hear(orjson.dumps({"controller": "x" * 5_000, "url": "http://\x1b[31m"}))
    assert found == StrangeSign("x" * name_chars_max, "")


def test_an_address_that_nobody_can_be_sent_to_counts_for_nothing() -> None:
    anna, bert = met("anna", "bert")
    odd = RollCall(KEY, TOPIC, Member("bert", "gopher://bert"))
    odd.sent, odd.returned = bert.sent, bert.returned
    odd.hear(anna.sign("ready"))
    assert anna.hear(odd.sign("ready")) is None


def test_a_recorded_sign_of_who_was_heard_counts_for_nothing() -> None:
    anna, bert = met("anna", "bert")
    sign = say(bert, anna)
    assert anna.hear(sign) is None
    leaving = bert.sign("leaving")
    assert anna.hear(leaving) == Sign(bert.self_, "leaving")
    assert anna.hear(leaving) is None
    assert anna.hear(sign) is None


def test_a_recorded_sign_of_who_was_never_heard_counts_for_nothing() -> None:
    """It names nobody who has started since."""
    anna, bert = met("anna", "bert")
    recorded = [bert.sign("ready") for _ in range(5)]
    newcomer = roll("carl")
    say(newcomer, anna)
    assert [newcomer.hear(sign) for sign in recorded] == [None] * 5


def test_a_sign_of_who_has_not_heard_us_for_long_counts_for_nothing() -> None:
    anna, bert = met("anna", "bert")
    late = [bert.sign("ready") for _ in range(3)]
    for _ in range(signs_behind_max):
        say(anna)
    assert anna.hear(late[0]) == Sign(bert.self_, "ready")
    say(anna)
    say(anna)
    assert anna.hear(late[1]) is None
    bert.hear(anna.sign("ready"))
    assert anna.hear(bert.sign("ready")) == Sign(bert.self_, "ready")


def test_nothing_grows_old_while_no_sign_of_ours_comes_back() -> None:
    anna, bert = met("anna", "bert")
    late = bert.sign("ready")
    for _ in range(3 * signs_behind_max):
        anna.sign("ready")
    assert anna.hear(late) == Sign(bert.self_, "ready")


def test_a_newcomer_waits_for_those_who_do_not_hear_it_yet_but_not_for_long() -> None:
    anna, newcomer = roll("anna"), roll("carl")
    say(newcomer)
    assert not newcomer.waits()
    say(anna, newcomer)
    assert newcomer.waits()
    say(newcomer, anna)
    say(anna, newcomer)
    assert not newcomer.waits()
    newcomer.hear(roll("gone").sign("ready"))
    assert newcomer.waits()
    for _ in range(signs_behind_max):
        say(newcomer)
    assert not newcomer.waits()


def test_nobody_waits_for_who_has_left() -> None:
    newcomer, gone = roll("carl"), roll("gone")
    say(gone, newcomer)
    assert newcomer.waits()
    say(gone, newcomer, state="leaving")
    assert not newcomer.waits()


def test_recorded_signs_of_many_push_out_nobody_who_lives() -> None:
    anna, bert = met("anna", "bert")
    for number in range(3 * names_max):
        anna.hear(roll(f"old-{number}").sign("ready"))
    sign = anna.sign("ready")
    assert len(sign) < sign_bytes_max
    assert anna.newest("bert") == bert.sent
    assert bert.hear(sign) == Sign(anna.self_, "ready")
    assert anna.hear(bert.sign("ready")) == Sign(bert.self_, "ready")
