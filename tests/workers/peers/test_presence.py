"""What a controller makes of the signs of life that come on the topic."""

import logging
import time

import orjson
import pytest

from tests.workers.peers.test_roll_call import OTHER_KEY, met, roll
from workers.peers.members import Member, Members, settle_seconds
from workers.peers.presence import Presence
from workers.peers.roll_call import RollCall
from workers.peers.strangers import Strangers


class Hearer:
    """A controller that is there, and hears what it is given."""

    def __init__(self, roll_: RollCall) -> None:
        self.members, self.strangers, self.roll = Members(roll_.self_), Strangers(roll_), roll_
        self.presence = Presence(
            "", self.members, roll_, self.strangers, 1, recovered=lambda: True, changed=lambda: None
        )
        self.members.heard(roll_.self_, time.monotonic() - settle_seconds, ready=False)
        self.hears(roll_.sign("joining"))

    def hears(self, value: bytes) -> list[Member]:
        """Who lives then, besides the controller itself."""
        self.presence._hear(value)
        return [member for member in self.members.live() if member != self.roll.self_]


def test_a_peer_that_hears_us_lives_until_it_leaves() -> None:
    anna, bert = met("anna", "bert")
    hearer = Hearer(anna)
    assert hearer.hears(bert.sign("ready")) == [bert.self_]
    assert hearer.hears(bert.sign("leaving")) == []


def test_a_stranger_does_not_live_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    hearer = Hearer(roll("anna"))
    assert hearer.hears(roll("eva", OTHER_KEY).sign("ready")) == []
    assert hearer.hears(orjson.dumps({"controller": "eva", "url": "http://eva", "state": "ready"})) == []
    assert hearer.strangers.live() == {"eva": "http://eva"}
    record = caplog.records[-1]
    assert (record.levelno, vars(record)["claims"], vars(record)["signs"]) == (logging.WARNING, "eva", 2)
    assert "--cluster-key" in record.getMessage()


def test_nobody_sends_a_peer_away_in_its_name() -> None:
    anna, bert = met("anna", "bert")
    hearer = Hearer(anna)
    hearer.hears(bert.sign("ready"))
    forged = {"controller": "bert", "url": bert.self_.url, "state": "leaving"}
    assert hearer.hears(orjson.dumps(forged)) == [bert.self_]


def test_it_joins_once_those_who_were_heard_hear_it_and_stays_when_others_come() -> None:
    hearer = Hearer(roll("anna"))
    bert, carl = roll("bert"), roll("carl")
    hearer.hears(bert.sign("ready"))
    assert hearer.presence._state() == "joining"
    bert.hear(hearer.roll.sign("joining"))
    hearer.hears(bert.sign("ready"))
    assert hearer.presence._state() == "ready"
    hearer.hears(carl.sign("joining"))
    assert hearer.roll.waits()
    assert hearer.presence._state() == "ready"
