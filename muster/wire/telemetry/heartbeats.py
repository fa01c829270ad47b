"""Heartbeats of many instances in one message, with the load of each: what a host or a client sends once a second.

A record of `<prefix>.heartbeats`, key `service/<name>`, in the partition of the service's events:

    {"agent": "host-7", "service": "orders", "items": [["orders-1", 4, 12, 310.5, 0.5, 0.61], ["orders-2", 9], …]}

An item is `[instance, incarnation, in_flight, per_second, failures, utilisation]`. The last four may be left out from the end,
or be null: unknown then. They are what the instance says of itself: calls being answered now, calls and failed calls per
second, and the share of its capacity that is taken (1.0 is all of it).
"""

import re
from collections.abc import Sequence
from itertools import starmap, zip_longest
from types import NoneType
from typing import Final, NamedTuple, cast

import orjson

from muster.wire.error import InvalidCommand
from muster.wire.stream import NAME, NAME_FORM

items_max: Final = 1_000
"""How many instances one message may speak for."""

number_max: Final = 1e12
MEMBERS: Final = frozenset(("agent", "service", "items"))
_FIELDS: Final = ("instance", "incarnation", "in_flight", "per_second", "failures", "utilisation")
_LENGTHS: Final = frozenset(range(2, 7))
_LOADS: Final = frozenset((int, float, NoneType))
_is_name: Final = re.compile(NAME).fullmatch
_are_names: Final = re.compile(rf"(?:{NAME}\n)*{NAME}").fullmatch


class LoadReport(NamedTuple):
    """What an instance has to do, as it says itself; None: unknown."""

    in_flight: float | None = None
    per_second: float | None = None
    failures: float | None = None
    utilisation: float | None = None


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
    return of_document(document)


def of_document(document: object) -> Heartbeats:
    """The message of this JSON value, as it stands in the topic. Raises InvalidCommand with the first field that is wrong."""
    if not isinstance(document, dict) or document.keys() != MEMBERS:
        raise InvalidCommand(
            "heartbeats: an object with agent, service and items, and nothing else", field="heartbeats"
        )
    return judged(document["agent"], document["service"], document["items"])


def judged(agent: object, service: object, items: object) -> Heartbeats:
    """The message of these plain JSON values. Raises InvalidCommand with the first field that is wrong."""
    return Heartbeats(name_from(agent, "agent"), name_from(service, "service"), beats_of(items))


def beats_of(items: object, field: str = "items") -> list[Beat]:
    """The beats of these plain JSON values; `field` is what they are called there. Raises InvalidCommand."""
    if not isinstance(items, list) or not 1 <= len(items) <= items_max:
        raise InvalidCommand(f"{field}: a list of 1 to {items_max:,} items", field=field)
    if not _are_right(items):
        raise _fault(items, field)
    return list(starmap(Beat, items))


def _are_right(items: list[list[object]]) -> bool:
    """Whether all of the items are. Judged by the column: item by item it takes three times as long, of thousands a second."""
    if set(map(type, items)) != {list} or not set(map(len, items)) <= _LENGTHS:
        return False
    # What was left out from the end is None here, as what is null.
    names, incarnations, *loads = zip_longest(*items)
    # Of what kind they are, before they are compared: text and numbers in one column would raise there.
    if set(map(type, names)) != {str} or set(map(type, incarnations)) != {int}:
        return False
    # One text of all names, a line each; a name that is two lines would otherwise pass for two names.
    lines = "\n".join(cast(tuple[str, ...], names))
    if lines.count("\n") != len(names) - 1 or _are_names(lines) is None or min(cast(tuple[int, ...], incarnations)) < 0:
        return False
    return all(map(_are_loads, loads))


def _are_loads(column: tuple[object, ...]) -> bool:
    """Whether all of a column are numbers that a load can have, or None."""
    kinds = set(map(type, column))
    # A truth value is an int to Python, and no number to JSON.
    if not kinds <= _LOADS:
        return False
    told = cast(Sequence[float], [one for one in column if one is not None] if NoneType in kinds else column)
    return not told or (min(told) >= 0 and max(told) <= number_max)


def _fault(items: list[list[object]], path: str) -> InvalidCommand:
    """Which member of which item is wrong. One wrong item refuses the message: its sender's fault would go unseen otherwise."""
    number = next(number for number, item in enumerate(items) if type(item) is not list or not _are_right([item]))
    item, path = items[number], f"{path}.{number}"
    if type(item) is not list or len(item) not in _LENGTHS:
        return refusal(path, f"a list of 2 to 6 members: {', '.join(_FIELDS)}")
    # From the left: what is judged with what stands before it is known to be right up to there.
    if not _are_right([[item[0], 0]]):
        return refusal(f"{path}.instance", "the name of an instance")
    if not _are_right([item[:2]]):
        return refusal(f"{path}.incarnation", "the whole number that the registration was answered with")
    wrong = next(place for place in range(2, len(item)) if not _are_right([["a", 0, item[place]]]))
    return refusal(f"{path}.{_FIELDS[wrong]}", f"a number from 0 to {number_max:.0e}, or null")


def name_from(told: object, field: str) -> str:
    """The name that this JSON value is. Raises InvalidCommand."""
    if isinstance(told, str) and _is_name(told) is not None:
        return told
    raise refusal(field, NAME_FORM)


def refusal(field: str, reason: str) -> InvalidCommand:
    """What is raised for this field."""
    return InvalidCommand(f"{field}: {reason}", field=field)


def _item(beat: Beat) -> list[object]:
    """The beat without the unknown at its end."""
    # Many know nothing of their load, and this is half of the bytes then.
    item: list[object] = list(beat)
    while len(item) > 2 and item[-1] is None:
        item.pop()
    return item
