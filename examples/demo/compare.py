"""What must be equal, compared: instances field by field, and a watch with the log. Pure; no finding: an empty list."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from muster import Appeared, Change, Changed, Event, Instance, Mark, Removed, Snapshot
from muster.wire.token import parse_token, positions_of

Key = tuple[str, str]


def differences(before: Mapping[Key, Instance], after: Mapping[Key, Instance]) -> list[str]:
    """Where instances differ, by the names of their fields."""
    found = [f"{service}/{instance} is missing" for service, instance in before.keys() - after.keys()]
    found += [f"{service}/{instance} is new" for service, instance in after.keys() - before.keys()]
    for key in before.keys() & after.keys():
        for field in fields(Instance):
            was, now = getattr(before[key], field.name), getattr(after[key], field.name)
            if was != now:
                found.append(f"{key[0]}/{key[1]}: {field.name} was {was!r}, is {now!r}")
    return sorted(found)


def watch_breaches(events: Iterable[Event], changes: Iterable[Change], since: Mapping[int, int]) -> list[str]:
    """Gaps and repeats of a watch that began at the positions `since`: its report of each instance, compared with the log."""
    recorded: dict[Key, list[str]] = {}
    for event in events:
        if event.stream.startswith("service/") and event.position > since.get(event.partition, -1):
            key = (event.stream.removeprefix("service/"), event.data["instance"])
            recorded.setdefault(key, []).append(_mark_of_event(event))
    told: dict[Key, list[str]] = {}
    for change in changes:
        if not isinstance(change, Snapshot):
            key = (change.instance.service, change.instance.instance)
            told.setdefault(key, []).append(_mark_of_change(change))
    return [
        f"{service}/{instance}: recorded {recorded.get((service, instance), [])}, told {told.get((service, instance), [])}"
        for service, instance in sorted(recorded.keys() | told.keys())
        if recorded.get((service, instance)) != told.get((service, instance))
    ]


def _mark_of_event(event: Event) -> str:
    if event.type == "muster.instance.deregistered.v1":
        return f"end of {event.data['incarnation']}"
    return f"at {event.position}"


def _mark_of_change(change: Appeared | Changed | Removed) -> str:
    if isinstance(change, Removed):
        return f"end of {change.instance.incarnation}"
    return f"at {change.instance.position}"


def positions(token: str) -> dict[int, int]:
    """The positions of `0:1234@9f3a01bc,3:17` by partition."""
    return positions_of(parse_token(token))


def covers(token: str, older: str) -> bool:
    """Whether the token has seen all that the older one has."""
    now = positions(token)
    return all(now.get(partition, -1) >= position for partition, position in positions(older).items())


def replayed_differences(rows: Iterable[Mapping[str, Any]], live: Mapping[Key, Instance]) -> list[str]:
    """Where replayed rows (as `muster replay --json` tells them) differ from the live instances, by every field of the rows."""
    replayed = {(row["service"], row["instance"]): row for row in rows}
    found = [f"{service}/{instance} is only live" for service, instance in live.keys() - replayed.keys()]
    found += [f"{service}/{instance} is only replayed" for service, instance in replayed.keys() - live.keys()]
    for key in replayed.keys() & live.keys():
        for name, value in replayed[key].items():
            now = _as_replayed(name, getattr(live[key], name))
            if (datetime.fromisoformat(value) if isinstance(now, datetime) else value) != now:
                found.append(f"{key[0]}/{key[1]}: {name} is replayed as {value!r}, live it is {now!r}")
    return sorted(found)


def _as_replayed(name: str, value: object) -> object:
    match value:
        case Mark() | str() | None if name in ("maintenance", "draining", "suspect"):
            return value is not None
        case tuple():
            return list(value)
        case _:
            return value
