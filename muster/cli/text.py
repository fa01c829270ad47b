"""PURE: values as text for people."""

from datetime import UTC, datetime
from typing import Any

from muster.cli.outcome import document


def age(since: datetime) -> str:
    """`5s`, `12m`, `3h` or `8d`."""
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        # From two of a unit on: `90m` says more than `1h`.
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def instant(at: datetime) -> str:
    """UTC, to the millisecond."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def short_type(name: str) -> str:
    """`instance.health_changed` of `muster.instance.health_changed.v1`."""
    stem, _, revision = name.removeprefix("muster.").rpartition(".v")
    return stem if stem and revision.isdecimal() else name


def details(data: dict[str, Any]) -> str:
    """An event's body in one short line."""
    if {"from", "to"} <= data.keys():
        shown = f"{data['from']} → {data['to']}"
        rest = {key: data[key] for key in ("check", "cause") if data.get(key)}
    elif isinstance(spec := data.get("spec"), dict):
        shown, rest = f"{spec.get('address')}:{spec.get('port')}", {"incarnation": data.get("incarnation")}
        # Marks that were kept from an earlier incarnation, by those who set them.
        rest |= {name: f"by {mark['actor']}" for name in ("maintenance", "draining") if (mark := data.get(name))}
    else:
        shown, rest = "", {key: value for key, value in data.items() if key != "instance" and value is not None}
        # It says nothing but what there is no more: a setting that was taken back.
        rest = rest or {key: "not set" for key in data if key != "instance"}
    return ", ".join(filter(None, (shown, *(f"{key}: {plain(value)}" for key, value in rest.items()))))


def plain(value: object) -> str:
    """Text as it is, any other value as JSON."""
    return value if isinstance(value, str) else document(value)
