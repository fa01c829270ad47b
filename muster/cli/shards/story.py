"""A migration for people: what it is, its state, what it waits for, and all its steps so far."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from muster.cli.table import TableColumn, columns, drawn
from muster.cli.text import age, instant
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
    """All of a migration: a header, and a table of its steps."""
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
    """A table with a line for each."""
    return drawn(_OVERVIEW, migrations)


def line(migration: Migration) -> str:
    """The state of a migration in one line."""
    parts = [f"{_short(migration.id)}: {state(migration)}"]
    if migration.step is not None:
        parts.append(f"at {migration.step}" + (f", attempt {migration.attempt}" if migration.attempt > 1 else ""))
    if migration.progress is not None and (share := progress(migration.progress)):
        parts.append(share)
    elif migration.step is not None and migration.waits_for:
        parts.append(f"waits for {migration.waits_for}")
    if migration.ended:
        parts.append(f"after {took(migration.seconds)}" + (f": {migration.cause}" if migration.cause else ""))
    return ", ".join(parts)


def state(migration: Migration) -> str:
    """The state of a migration in a word or two."""
    if migration.ended:
        return migration.phase
    if migration.paused:
        return "paused"
    if migration.phase == "compensating" and migration.standing == "running":
        return "compensating"
    return migration.standing


def progress(found: MoveProgress) -> str:
    """`12.0 MB of 40.0 MB (30 %), 5.1 MB/s, about 5 s left, 3 changes behind`."""
    parts = list[str]()
    if found.bytes is not None:
        of = f" of {size(found.bytes_total)} ({_share(found)})" if found.bytes_total else ""
        parts.append(f"{size(found.bytes)}{of}")
    if found.records:
        parts.append(f"{found.records:,} records")
    if found.bytes_per_second:
        parts.append(f"{size(found.bytes_per_second)}/s")
    if found.seconds_left is not None:
        parts.append(f"about {took(found.seconds_left)} left")
    if found.lag_records is not None:
        parts.append(f"{found.lag_records:,} changes behind")
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


def _share(found: MoveProgress | None) -> str:
    if found is None or found.bytes is None or not found.bytes_total:
        return ""
    return f"{min(100, 100 * found.bytes // found.bytes_total)} %"


def _short(migration: str) -> str:
    """`users/17` of `keyspace/users/migration/17`."""
    return migration.removeprefix("keyspace/").replace("/migration/", "/")


def _waits(row: Migration) -> str:
    return f"stalled: {row.stalled}" if row.stalled else row.waits_for or row.cause or ""


_OVERVIEW: Final[list[TableColumn[Migration]]] = columns(
    TableColumn("MIGRATION", lambda row: _short(row.id)),
    TableColumn("SHARD", lambda row: f"{row.keyspace}/{row.shard}"),
    TableColumn("FROM", lambda row: row.source),
    TableColumn("TO", lambda row: row.target),
    TableColumn("STATE", lambda row: Text(state(row), _COLOURS.get(state(row), ""))),
    "step",
    TableColumn("BEGUN", lambda row: age(row.started_at)),
    TableColumn("TOOK", lambda row: took(row.seconds)),
    TableColumn("PROGRESS", lambda row: _share(row.progress)),
    TableColumn("WAITS FOR", _waits),
)
