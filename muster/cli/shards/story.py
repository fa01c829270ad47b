"""How a migration looks to a person: what it is, where it stands, what it waits for, and every step that it has come to."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from muster.cli.table import age, instant
from muster.wire.shards import Migration, MigrationStep, MoveProgress

_COLOURS: Final = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "skipped": "yellow",
    "given up": "yellow",
    "completed": "green",
    "compensated": "yellow",
    "blocked": "red",
}


def story(migration: Migration) -> RenderableType:
    """The whole of it: a header, and a table of its steps."""
    header = Table.grid(padding=(0, 2))
    for name, what in _header(migration):
        header.add_row(Text(name, "bold"), what)
    steps = Table(
        "STEP", "BEGAN", "TOOK", "ATTEMPTS", "OUTCOME", "ERROR", box=None, pad_edge=False, header_style="bold"
    )
    for step in migration.steps:
        steps.add_row(*_step(step))
    return Group(header, Text(), steps)


def overview(migrations: Iterable[Migration]) -> Table:
    """A line for each."""
    columns = ("MIGRATION", "SHARD", "FROM", "TO", "STATE", "STEP", "BEGUN", "TOOK", "PROGRESS", "WAITS FOR")
    drawn = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in migrations:
        drawn.add_row(
            _short(row.id),
            f"{row.keyspace}/{row.shard}",
            row.source,
            row.target,
            Text(state(row), _COLOURS.get(state(row), "")),
            row.step or "",
            age(row.started_at),
            took(row.seconds),
            _share(row.progress),
            (row.waits_for or row.cause or "") if not row.stalled else f"stalled: {row.stalled}",
        )
    return drawn


def line(migration: Migration) -> str:
    """Where it stands, in one line."""
    told = [f"{_short(migration.id)}: {state(migration)}"]
    if migration.step is not None:
        told.append(f"at {migration.step}" + (f", attempt {migration.attempt}" if migration.attempt > 1 else ""))
    if migration.progress is not None and (share := progress(migration.progress)):
        told.append(share)
    elif migration.step is not None and migration.waits_for:
        told.append(f"waits for {migration.waits_for}")
    if migration.ended:
        told.append(f"after {took(migration.seconds)}" + (f": {migration.cause}" if migration.cause else ""))
    return ", ".join(told)


def state(migration: Migration) -> str:
    """One word for where it stands; or two."""
    if migration.ended:
        return migration.phase
    if migration.paused:
        return "paused"
    if migration.phase == "compensating" and migration.standing == "running":
        return "compensating"
    return migration.standing


def progress(told: MoveProgress) -> str:
    """`12.0 MB of 40.0 MB (30 %), 5.1 MB/s, about 5 s left, 3 changes behind`."""
    parts = list[str]()
    if told.bytes is not None:
        of = f" of {size(told.bytes_total)} ({_share(told)})" if told.bytes_total else ""
        parts.append(f"{size(told.bytes)}{of}")
    if told.records:
        parts.append(f"{told.records:,} records")
    if told.bytes_per_second:
        parts.append(f"{size(told.bytes_per_second)}/s")
    if told.seconds_left is not None:
        parts.append(f"about {took(told.seconds_left)} left")
    if told.lag_records is not None:
        parts.append(f"{told.lag_records:,} changes behind")
    return ", ".join(parts)


def size(count: float) -> str:
    """`512 B`, `1.5 kB`, `20.0 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1_000
    return f"{count:.1f} TB"


def took(seconds: float | None) -> str:
    """`0.012s`, `3.4s`, `2m05s` or `3h10m`."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.3f}s" if seconds < 1 else f"{seconds:.1f}s"
    if seconds < 120:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 120 else f"{minutes // 60}h{minutes % 60:02}m"


def _header(migration: Migration) -> Iterator[tuple[str, str | Text]]:
    what = f"shard {migration.shard} of {migration.keyspace}, from {migration.source} to {migration.target}"
    yield "move", f"{what} ({migration.id})"
    standing = state(migration)
    at = f" at {migration.step}, attempt {migration.attempt}" if migration.step is not None else ""
    phase = f" ({migration.phase})" if migration.phase not in (standing, "forward") else ""
    yield "state", Text(f"{standing}{phase}{at}, {took(migration.seconds)} in all", _COLOURS.get(standing, ""))
    by = f" by {migration.actor}" if migration.actor else ""
    why = f": {migration.reason}" if migration.reason else ""
    yield "begun", f"{instant(migration.started_at)}{by}{why}"
    if migration.cause:
        yield "turned back", migration.cause
    if migration.waits_for:
        yield "waits for", migration.waits_for
    if migration.error:
        yield "last error", Text(migration.error, "red")
    if migration.stalled:
        yield "stalled", Text(migration.stalled, "red")
    if migration.progress is not None:
        yield "progress", progress(migration.progress)
    if not migration.ended:
        yield "allowed", ", ".join(migration.allowed) or "nothing"


def _step(step: MigrationStep) -> tuple[str | Text, ...]:
    name = f"{step.name} (undoes {step.undoes})" if step.undoes else step.name
    outcome = Text(step.outcome or "", _COLOURS.get(step.outcome or "", ""))
    return name, _time(step.began_at), took(step.seconds), str(step.attempts), outcome, step.error or ""


def _time(at: datetime) -> str:
    return instant(at).partition(" ")[2]


def _share(told: MoveProgress | None) -> str:
    if told is None or told.bytes is None or not told.bytes_total:
        return ""
    return f"{min(100, 100 * told.bytes // told.bytes_total)} %"


def _short(migration: str) -> str:
    """`users/17` of `keyspace/users/migration/17`."""
    return migration.removeprefix("keyspace/").replace("/migration/", "/")
