"""Which signs of life count: those that are made with the cluster's key, are new, and are by somebody who hears us. Pure.

Each sign has a number, counted from the start of its controller, and names the newest number that its controller has heard
of every other one. So a recorded sign is worth nothing: to who has heard that controller its number is no news, and who has
not heard it has never been heard by it lately either. No clock is compared with another one: time is counted in our own
signs that have come back from the topic (150 ms each), so while the broker is away nothing grows old.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

import orjson

from muster.wire.controllers import is_url
from workers.peers.cluster_key import ClusterKey
from workers.peers.members import Member

sign_bytes_max: Final = 65_536
names_max: Final = 128
"""So many controllers that hear us are remembered, and so many of the others."""

signs_behind_max: Final = 20
"""By so many of our own signs, 3 s, others may be behind: a sign that names an older one of ours is a recorded one."""

name_chars_max: Final = 100
_FIELDS: Final = ("controller", "url", "state", "number", "heard")


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life that counts. `state` is `joining`, `ready` or `leaving`."""

    member: Member
    state: str


@dataclass(frozen=True, slots=True)
class StrangeSign:
    """A sign that is not made with our key: what it claims to be, cut to what can be shown. Empty: it claims nothing."""

    name: str
    url: str


class RollCall:
    """The signs of this controller, and what it has heard of the others. `topic` is where they are said."""

    def __init__(self, key: ClusterKey, topic: str, self_: Member) -> None:
        self._key, self._topic, self.self_ = key, topic, self_
        self.sent = 0
        self.returned = 0
        # By name, the newest number. Only who hears us has its place for sure: recorded signs of many names from the past
        # must not push out those that live.
        self._confirmed: OrderedDict[str, int] = OrderedDict()
        self._unconfirmed: OrderedDict[str, int] = OrderedDict()

    def sign(self, state: str) -> bytes:
        """Our next sign of life."""
        self.sent += 1
        heard = {**self._unconfirmed, **self._confirmed}
        own = {"controller": self.self_.name, "url": self.self_.url, "state": state}
        fields = {**own, "number": self.sent, "heard": heard}
        return orjson.dumps({**fields, "hmac": self._key.proof("sign", self._topic, _canonical(fields))})

    def hear(self, value: bytes) -> Sign | StrangeSign | None:
        """What has come on the topic; None: made with our key, but no news, or by somebody who does not hear us yet."""
        fields = _object(value)
        proof = fields.pop("hmac", None)
        if not self._key.proves(proof, "sign", self._topic, _canonical(fields)):
            return StrangeSign(_shown(fields.get("controller")), _shown(fields.get("url")))
        name, url, state, number, heard = (fields.get(field) for field in _FIELDS)
        if not (isinstance(name, str) and isinstance(url, str) and isinstance(state, str)):
            return None  # Of another version, which says it otherwise.
        if not (isinstance(number, int) and isinstance(heard, dict)):
            return None
        # Clients are told of the address, and would be sent there.
        if not is_url(url) or not self._counts(name, state, number, heard):
            return None
        return Sign(Member(name, url), state)

    def newest(self, name: str) -> int:
        """The number of the newest sign of that controller; 0: none was heard."""
        return self._confirmed.get(name) or self._unconfirmed.get(name, 0)

    def knows(self, name: str) -> bool:
        """Whether signs of that name were made with our key."""
        return name == self.self_.name or self.newest(name) > 0

    def waits(self) -> bool:
        """Whether somebody was heard who does not hear us yet. Not for long, since it may be a recorded sign."""
        return bool(self._unconfirmed) and self.returned <= signs_behind_max

    def _counts(self, name: str, state: str, number: int, heard: Mapping[str, object]) -> bool:
        if name == self.self_.name:
            # Our own sign, which has come back.
            is_news = self.returned < number <= self.sent
            self.returned = number if is_news else self.returned
            return is_news
        if number <= self.newest(name):
            return False
        named = heard.get(self.self_.name)
        hears_us = isinstance(named, int) and named > 0 and self.returned - named <= signs_behind_max
        if hears_us or name in self._confirmed:
            self._unconfirmed.pop(name, None)
            _keep(self._confirmed, name, number)
        else:
            _keep(self._unconfirmed, name, number)
        if state == "leaving":
            # Whoever leaves need not have heard us; and nobody is waited for who has left.
            self._unconfirmed.pop(name, None)
            return True
        return hears_us


def _keep(numbers: OrderedDict[str, int], name: str, number: int) -> None:
    numbers[name] = number
    numbers.move_to_end(name)
    for oldest in list(islice(numbers, max(0, len(numbers) - names_max))):
        del numbers[oldest]


def _object(value: bytes) -> dict[str, object]:
    if len(value) > sign_bytes_max:
        return {}
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _canonical(fields: Mapping[str, object]) -> bytes:
    """All fields in one form, whatever their order and spaces were."""
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def _shown(claimed: object) -> str:
    return claimed[:name_chars_max] if isinstance(claimed, str) and claimed.isprintable() else ""
