"""What a controller takes for a sign of life."""

import orjson
import pytest

from workers.peers.members import Member, Members
from workers.peers.presence import Presence

SELF = Member("self", "http://self")


def heard(value: bytes) -> list[Member]:
    """Who lives, besides the controller itself, once this has come on the topic."""
    members = Members(SELF)
    presence = Presence("", members, 1, recovered=lambda: True, changed=lambda: None)
    presence._hear(orjson.dumps({"controller": SELF.name, "url": SELF.url, "state": "ready"}))
    presence._hear(value)
    return [member for member in members.live() if member != SELF]


def test_a_sign_names_a_controller_and_its_address() -> None:
    sign = {"controller": "other", "url": "http://other:8740", "state": "joining"}
    assert heard(orjson.dumps(sign)) == [Member("other", "http://other:8740")]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b'{"controller": "other", "url": "http://other"}',
        b'{"controller": ["other"], "url": "http://other", "state": "ready"}',
        b'{"controller": "other", "url": ["http://other"], "state": "ready"}',
        b'{"controller": "other", "url": "gopher://other", "state": "ready"}',
        b'{"controller": "other", "url": "http://other\\nx", "state": "ready"}',
    ],
)
def test_what_anybody_may_write_to_the_topic_is_passed_over(value: bytes) -> None:
    assert heard(value) == []
