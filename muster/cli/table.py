"""How answers look to people: tables, and lines as they come."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from muster.cli.outcome import document
from muster.client.watch import Appeared, Change, Changed, Removed, Snapshot
from muster.wire.registry import Event, HistoryEntry, Instance, Mark, Service, Written

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_WIDTH_OF_PIPES: Final = 200
_COLOURS: Final = {"healthy": "green", "unhealthy": "red", "unknown": "yellow"}


def table(columns: Sequence[str], rows: "Iterable[Sequence[str | Text]]") -> None:
    """Write a table; nothing is cut off when the output is no terminal."""
    from rich.table import Table  # here, as below: only what draws loads rich

    drawn = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        drawn.add_row(*row)
    console().print(drawn)


def coloured(text: str, colour: str) -> "Text":
    """A cell in a colour (none: as it is)."""
    from rich.text import Text

    return Text(text, colour)


def console() -> "Console":
    """A console on today's standard output."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_OF_PIPES, highlight=False)


def show_written(written: Written, what: str) -> None:
    """One line on what a write did."""
    again = ", told before" if written.duplicate else ""
    click.echo(
        f"{written.status}{again}: {what}, incarnation {_or_dash(written.incarnation)}, version "
        f"{_or_dash(written.version)} (partition {written.partition}, position {written.position})"
    )


def show_services(services: Iterable[Service]) -> None:
    """A line per service."""
    rows = [
        (row.service, str(row.instances), str(row.healthy), str(row.unhealthy), str(row.unknown)) for row in services
    ]
    table(("SERVICE", "INSTANCES", "HEALTHY", "UNHEALTHY", "UNKNOWN"), rows)


def show_instances(instances: Iterable[Instance]) -> None:
    """A line per instance."""
    table(
        ("INSTANCE", "ENDPOINT", "HEALTH", "SINCE", "ZONE", "WEIGHT", "TAGS", "STATE", "CAUSE"),
        [
            (
                row.instance,
                row.endpoint,
                coloured(row.health, _COLOURS.get(row.health, "")),
                age(row.health_since),
                row.zone,
                str(row.weight),
                ",".join(row.tags),
                state(row),
                row.cause or "",
            )
            for row in instances
        ],
    )


def show_history(entries: Iterable[HistoryEntry]) -> None:
    """A line per event: when, what, by whom and why."""
    table(
        ("POSITION", "AT", "EVENT", "WHAT", "ACTOR", "REASON"),
        [(str(entry.position), *_told(entry, details(entry.data))) for entry in entries],
    )


def show_events(events: Iterable[Event]) -> None:
    """A line per event, with its place and stream."""
    table(
        ("POSITION", "AT", "STREAM", "EVENT", "WHAT", "ACTOR", "REASON"),
        [
            (f"{event.partition}:{event.position}", at, event.stream, *rest)
            for event in events
            for at, *rest in (_told(event, f"{event.data.get('instance', '')} {details(event.data)}".strip()),)
        ],
    )


def _told(entry: HistoryEntry, what: str) -> tuple[str, ...]:
    return instant(entry.at), short_type(entry.type), what, entry.actor or "", entry.reason or ""


def show_change(change: Change) -> None:
    """One line for a change (a snapshot: one per instance)."""
    match change:
        case Snapshot():
            for instance in change.instances:
                _line("=", instance, _condition(instance))
            click.echo(f"-- {len(change.instances)} instances, watching from {change.token}")
        case Appeared():
            _line("+", change.instance, _condition(change.instance))
        case Changed():
            _line("~", change.instance, _difference(change))
        case Removed():
            _line("-", change.instance, f"removed: {change.cause or 'while the watch was interrupted'}")


def change_document(change: Change) -> dict[str, Any]:
    """A change for programs: `change` names its kind."""
    kind = {"change": type(change).__name__.lower()}
    match change:
        case Snapshot():
            return {**kind, "instances": change.instances, "token": change.token}
        case Appeared():
            return {**kind, "instance": change.instance, "token": change.token}
        case Changed():
            return {**kind, "instance": change.instance, "fields": sorted(change.fields), "token": change.token}
        case Removed():
            return {**kind, "instance": change.instance, "cause": change.cause, "token": change.token}


def state(instance: Instance) -> str:
    """Whether it is out of discovery on somebody's wish, and whose."""
    marks = (("maintenance", instance.maintenance), ("draining", instance.draining))
    return ", ".join(f"{name} by {_by(mark)}" for name, mark in marks if mark is not None)


def age(since: datetime) -> str:
    """`5s`, `12m`, `3h` or `8d`."""
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def instant(at: datetime) -> str:
    """UTC, to the millisecond."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def short_type(name: str) -> str:
    """`instance.health_changed` of `muster.instance.health_changed.v1`."""
    stem, _, revision = name.removeprefix("muster.").rpartition(".v")
    return stem if stem and revision.isdigit() else name


def details(data: dict[str, Any]) -> str:
    """An event's body in one short line."""
    if {"from", "to"} <= data.keys():
        shown = f"{data['from']} → {data['to']}"
        rest = {key: data[key] for key in ("check", "cause") if data.get(key)}
    elif isinstance(spec := data.get("spec"), dict):
        shown, rest = f"{spec.get('address')}:{spec.get('port')}", {"incarnation": data.get("incarnation")}
    else:
        shown, rest = "", {key: value for key, value in data.items() if key != "instance" and value is not None}
    return ", ".join(filter(None, (shown, *(f"{key}: {_plain(value)}" for key, value in rest.items()))))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else document(value)


def _line(sign: str, instance: Instance, what: str) -> None:
    click.echo(f"{sign} {instance.service}/{instance.instance} {instance.endpoint} {what}")


def _condition(instance: Instance) -> str:
    return ", ".join(filter(None, (instance.health, instance.cause, state(instance))))


def _difference(change: Changed) -> str:
    told, fields = [], change.fields
    if "health" in fields:
        cause = f" ({change.instance.cause})" if change.instance.cause else ""
        told.append(f"{change.before.health} → {change.instance.health}{cause}")
    for name in ("maintenance", "draining"):
        if name in fields:
            mark = getattr(change.instance, name)
            told.append(f"{name} by {_by(mark)}" if mark else f"{name} over")
    derived = {"health", "cause", "health_since", "check_status", "discoverable", "maintenance", "draining"}
    told += [f"{name}: {_plain(getattr(change.instance, name))}" for name in sorted(fields - derived)]
    if not told:
        told = [f"{name} {check.status}" for name, check in change.instance.check_status.items()]
    return ", ".join(told)


def _by(mark: Mark) -> str:
    return f"{mark.actor} ({mark.reason})" if mark.reason else mark.actor


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)
