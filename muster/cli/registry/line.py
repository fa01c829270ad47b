"""Writes and changes of instances as lines, for people and for programs."""

from typing import Any

from muster.cli.outcome import say
from muster.cli.text import plain
from muster.client.watch import Appeared, Change, Changed, Removed, Snapshot
from muster.wire.registry.answers import Instance, Mark, Written


def show_written(written: Written, what: str) -> None:
    """One line on what a write did."""
    again = ", as before" if written.duplicate else ""
    say(
        f"{written.status}{again}: {what}, incarnation {_or_dash(written.incarnation)}, version "
        f"{_or_dash(written.version)} (partition {written.partition}, position {written.position})"
    )


def show_change(change: Change) -> None:
    """One line for a change (a snapshot: one per instance)."""
    match change:
        case Snapshot():
            for instance in change.instances:
                _line("=", instance, _condition(instance))
            say(f"-- {len(change.instances)} instances, watching from {change.token}")
        case Appeared():
            _line("+", change.instance, _condition(change.instance))
        case Changed():
            _line("~", change.instance, _difference(change))
        case Removed():
            # Without a cause the removal was found by comparing two snapshots: no event of it was seen.
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
    """Why the instance is out of discovery, and on whose request, or why it is not though it is ill; else empty."""
    marks = (("maintenance", instance.maintenance), ("draining", instance.draining))
    said = [f"{name} by {_by(mark)}" for name, mark in marks if mark is not None]
    return ", ".join(said + ([f"suspect: {instance.suspect}"] if instance.suspect else []))


def _line(sign: str, instance: Instance, what: str) -> None:
    say(f"{sign} {instance.service}/{instance.instance} {instance.endpoint} {what}")


def _condition(instance: Instance) -> str:
    return ", ".join(filter(None, (instance.health, instance.cause, state(instance))))


def _difference(change: Changed) -> str:
    found, fields = list[str](), change.fields
    if "health" in fields:
        cause = f" ({change.instance.cause})" if change.instance.cause else ""
        found.append(f"{change.before.health} → {change.instance.health}{cause}")
    for name in ("maintenance", "draining"):
        if name in fields:
            mark = getattr(change.instance, name)
            found.append(f"{name} by {_by(mark)}" if mark else f"{name} over")
    if "suspect" in fields:
        suspect = change.instance.suspect
        found.append(f"suspect: {suspect}" if suspect else "suspect no more")
    # These are said above, or follow from the others.
    derived = {"health", "cause", "health_since", "check_status", "discoverable", "suspect", "maintenance", "draining"}
    found += [f"{name}: {plain(getattr(change.instance, name))}" for name in sorted(fields - derived)]
    # One of the checks has changed, and the instance's health has not.
    if not found:
        found = [f"{name} {check.status}" for name, check in change.instance.check_status.items()]
    return ", ".join(found)


def _by(mark: Mark) -> str:
    return f"{mark.actor} ({mark.reason})" if mark.reason else mark.actor


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)
