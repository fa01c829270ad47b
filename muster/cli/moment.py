"""Times on the command line: an instant, a time of day, or how long ago."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final

import click

FORMS: Final = "03:05 (UTC), 15m (ago), or 2026-01-31T03:05:00Z"

_AGO: Final = re.compile(r"(\d{1,9})(s|m|h|d)")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_OF_DAY: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?")
_DAY: Final = timedelta(days=1)


def moment(text: str, now: datetime, *, after: datetime | None = None) -> datetime:
    """The instant that is meant. A time of day is the latest one that has been, or the first one `after` an instant.

    Raises ValueError, with what would do.
    """
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    if _OF_DAY.fullmatch(text):
        return _of_day(text, now, after)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write {FORMS}") from None
    # Without an offset it would be another instant on another machine.
    if at.tzinfo is None:
        raise ValueError(f"{text!r} needs an offset, like Z or +02:00")
    return at.astimezone(UTC)


def _of_day(text: str, now: datetime, after: datetime | None) -> datetime:
    try:
        of_day = time.fromisoformat(text.zfill(5) if text.count(":") == 1 else text)
    except ValueError:
        raise ValueError(f"{text!r} is no time of day; write {FORMS}") from None
    if after is not None:
        at = datetime.combine(after.date(), of_day, UTC)
        return at if at >= after else at + _DAY
    at = datetime.combine(now.date(), of_day, UTC)
    return at if at <= now else at - _DAY


def span(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """The instants of --since and --until. Raises BadParameter."""
    now = datetime.now(UTC)
    try:
        begin = None if since is None else moment(since, now)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    try:
        end = None if until is None else moment(until, now, after=begin)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error), param_hint="--until") from None
    if begin is not None and end is not None and end < begin:
        raise click.BadParameter(f"{until!r} is before --since", param_hint="--until")
    return begin, end
