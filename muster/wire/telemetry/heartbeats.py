"""Heartbeats of many instances in one message, with the load of each: what a host or a client sends once a second.

A record of `<prefix>.heartbeats`, key `service/<name>`, in the partition of the service's events:

    {"agent": "host-7", "service": "orders", "items": [["orders-1", 4, 12, 310.5, 0.5, 0.61], ["orders-2", 9], …]}

An item is `[instance, incarnation, in_flight, per_second, failures, utilisation]`. The last four may be left out from the end,
or be null: unknown then. They are what the instance says of itself: calls being answered now, calls and failed calls per
second, and the share of its capacity that is taken (1.0 is all of it).
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from muster.wire.error import InvalidCommand
from muster.wire.stream import NAME_PATTERN

items_max: Final = 1_000
"""How many instances one message may speak for."""

number_max: Final = 1e12
MEMBERS: Final = frozenset(("agent", "service", "items"))
_FIELDS: Final = ("instance", "incarnation", "in_flight", "per_second", "failures", "utilisation")
_is_name: Final = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z").match


class Beat(NamedTuple):
    """One instance's sign of life; None: unknown."""

    instance: str
    incarnation: int
    in_flight: float | None = None
    per_second: float | None = None
    failures: float | None = None
    utilisation: float | None = None


class Heartbeats(NamedTuple):
    """One message: who sends it, for which service, and the beats of its instances."""

    agent: str
    service: str
    beats: list[Beat]


def document_of(message: Heartbeats) -> dict[str, object]:
    """The message as plain JSON values, as it stands in a request."""
    return {"agent": message.agent, "service": message.service, "items": [_item(beat) for beat in message.beats]}


def encode(agent: str, service: str, beats: Sequence[Beat]) -> bytes:
    """The message as it stands in the topic. Raises InvalidCommand as `decode` does, so that nothing wrong leaves."""
    items = [_item(beat) for beat in beats]
    # Judged as a reader would: a message that is refused there leaves all its instances unheard.
    judged(agent, service, items)
    return orjson.dumps({"agent": agent, "service": service, "items": items})


def decode(value: bytes) -> Heartbeats:
    """The message of these bytes. Raises InvalidCommand with the first field that is wrong."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise InvalidCommand(f"heartbeats: not JSON: {error}", field="heartbeats") from None
    if not isinstance(document, dict) or document.keys() != MEMBERS:
        raise InvalidCommand(
            "heartbeats: an object with agent, service and items, and nothing else", field="heartbeats"
        )
    return judged(document["agent"], document["service"], document["items"])


def judged(agent: object, service: object, items: object) -> Heartbeats:
    """The message of these plain JSON values. Raises InvalidCommand with the first field that is wrong."""
    return Heartbeats(_name(agent, "agent"), _name(service, "service"), beats_of(items))


def beats_of(items: object, field: str = "items") -> list[Beat]:
    """The beats of these plain JSON values; `field` is what they are called there. Raises InvalidCommand."""
    if not isinstance(items, list) or not 1 <= len(items) <= items_max:
        raise InvalidCommand(f"{field}: a list of 1 to {items_max:,} items", field=field)
    beats = []
    for number, item in enumerate(items):
        # One wrong item refuses the message: who sends it has a fault that would go unseen otherwise.
        if type(item) is not list or not 2 <= len(item) <= 6:
            raise InvalidCommand(
                f"{field}.{number}: a list of 2 to 6 members: {', '.join(_FIELDS)}", field=f"{field}.{number}"
            )
        # A thousand times a second: what is right is found so without a call for each member.
        name, incarnation = item[0], item[1]
        if type(name) is not str or type(incarnation) is not int or incarnation < 0 or _is_name(name) is None:
            raise _fault(item, f"{field}.{number}")
        # A truth value is an int to Python, and no number to JSON; NaN is in no range.
        for told in item[2:]:
            if told is not None and not (type(told) in (int, float) and 0 <= told <= number_max):
                raise _fault(item, f"{field}.{number}")
        beats.append(Beat(*item))
    return beats


def _fault(item: list[object], path: str) -> InvalidCommand:
    """Which member of the item is wrong."""
    name, incarnation = item[:2]
    if not isinstance(name, str) or _is_name(name) is None:
        return _refusal(f"{path}.instance", "the name of an instance")
    if type(incarnation) is not int or incarnation < 0:
        return _refusal(f"{path}.incarnation", "the whole number that the registration was answered with")
    wrong = next(
        field
        for field, told in zip(_FIELDS[2:], item[2:], strict=False)
        if told is not None and not (type(told) in (int, float) and 0 <= told <= number_max)  # type: ignore[operator]
    )
    return _refusal(f"{path}.{wrong}", f"a number from 0 to {number_max:.0e}, or null")


def _name(told: object, field: str) -> str:
    if isinstance(told, str) and _is_name(told) is not None:
        return told
    raise _refusal(field, "must be 1 to 128 letters, digits, . _ - and begin with a letter or digit")


def _refusal(field: str, reason: str) -> InvalidCommand:
    return InvalidCommand(f"{field}: {reason}", field=field)


def _item(beat: Beat) -> list[object]:
    """The beat without the unknown at its end."""
    # Many know nothing of their load, and this is half of the bytes then.
    item: list[object] = list(beat)
    while len(item) > 2 and item[-1] is None:
        item.pop()
    return item
