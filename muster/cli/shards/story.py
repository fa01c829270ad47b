"""A saga for people: what it is, its state, what it waits for, and all its steps so far. A migration is shown as a move."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from muster.cli.table import TableColumn, as_text, columns, drawn
from muster.cli.text import age, instant
from muster.wire.sagas import Saga, SagaStep, Standing
from muster.wire.shards.answers import Migration, MoveProgress

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


def story(saga: Saga | Migration) -> RenderableType:
    """All of a saga: a header, and a table of its steps."""
    header = Table.grid(padding=(0, 2))
    for name, what in _header(saga):
        header.add_row(Text(name, "bold"), as_text(what))
    return Group(header, Text(), drawn(_STEPS, saga.steps))


def overview(migrations: Iterable[Migration]) -> Table:
    """A table with a line for each."""
    return drawn(_OVERVIEW, migrations)


def overview_of_sagas(sagas: Iterable[Saga]) -> Table:
    """The same, of sagas of any kind."""
    return drawn(_SAGAS, sagas)


def line(migration: Migration) -> str:
    """The state of a migration in one line."""
    parts = [f"{_short(migration.id)}: {state(migration)}"]
    if migration.step is not None:
        parts.append(f"at {migration.step}" + (f", attempt {migration.attempt}" if migration.attempt > 1 else ""))
    if migration.progress is not None and (share := progress(migration.progress)):
        parts.append(share)
    # What it waits for is shown only where there are no figures of how far it has come.
    elif migration.step is not None and migration.waits_for:
        parts.append(f"waits for {migration.waits_for}")
    if migration.ended:
        parts.append(f"after {took(migration.seconds)}" + (f": {migration.cause}" if migration.cause else ""))
    return ", ".join(parts)


def state(saga: Standing) -> str:
    """The state of a saga in a word or two."""
    if saga.ended:
        return saga.phase
    if saga.paused:
        return "paused"
    # It runs, but backwards, which is what people have to see.
    if saga.phase == "compensating" and saga.standing == "running":
        return "compensating"
    return saga.standing


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


def weighed(migration: Migration) -> str:
    """What the choice of the target rested on: `shard 41.2; n1 had 310, n2 12 (requests per second, and 1 for each shard)`."""
    found = migration.weighed
    if found is None:
        return ""
    had = f"{migration.source} had {found.source:g}, {migration.target} {found.target:g}"
    return f"shard {found.shard:g}; {had} (requests per second, and 1 for each shard)"


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


def _header(saga: Saga | Migration) -> Iterator[tuple[str, str | Text]]:
    yield _what(saga)
    standing = state(saga)
    at = f" at {saga.step}, attempt {saga.attempt}" if saga.step is not None else ""
    phase = f" ({saga.phase})" if saga.phase not in (standing, "forward") else ""
    yield "state", Text(f"{standing}{phase}{at}, {took(saga.seconds)} in all", _COLOURS.get(standing, ""))
    by = f" by {saga.actor}" if saga.actor else ""
    why = f": {saga.reason}" if saga.reason else ""
    yield "begun", f"{instant(saga.started_at)}{by}{why}"
    if isinstance(saga, Migration) and saga.weighed is not None:
        yield "weighed", weighed(saga)
    if saga.cause:
        yield "turned back", saga.cause
    if saga.waits_for:
        yield "waits for", saga.waits_for
    if saga.error:
        yield "last error", Text(saga.error, "red")
    if saga.stalled:
        yield "stalled", Text(saga.stalled, "red")
    if isinstance(saga, Migration) and saga.progress is not None:
        yield "progress", progress(saga.progress)
    # A saga that has ended takes no verbs, so there is nothing to list.
    if not saga.ended:
        yield "allowed", ", ".join(saga.allowed) or "nothing"


def _what(saga: Saga | Migration) -> tuple[str, str]:
    if isinstance(saga, Migration):
        return "move", f"shard {saga.shard} of {saga.keyspace}, from {saga.source} to {saga.target} ({saga.id})"
    return "saga", f"{saga.definition}, version {saga.version}, of {saga.root} ({saga.id})"


def _time(at: datetime) -> str:
    return instant(at).partition(" ")[2]


def _share(found: MoveProgress | None) -> str:
    if found is None or found.bytes is None or not found.bytes_total:
        return ""
    return f"{min(100, 100 * found.bytes // found.bytes_total)} %"


def _short(migration: str) -> str:
    """`users/17` of `keyspace/users/migration/17`."""
    return migration.removeprefix("keyspace/").replace("/migration/", "/")


def _waits(row: Standing) -> str:
    return f"stalled: {row.stalled}" if row.stalled else row.waits_for or row.cause or ""


_STEPS: Final[list[TableColumn[SagaStep]]] = columns(
    TableColumn("STEP", lambda step: f"{step.name} (undoes {step.undoes})" if step.undoes else step.name),
    TableColumn("BEGAN", lambda step: _time(step.began_at)),
    TableColumn("TOOK", lambda step: took(step.seconds)),
    "attempts",
    TableColumn("OUTCOME", lambda step: Text(step.outcome or "", _COLOURS.get(step.outcome or "", ""))),
    "error",
)
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
_SAGAS: Final[list[TableColumn[Saga]]] = columns(
    TableColumn("SAGA", lambda row: row.id),
    "definition",
    TableColumn("STATE", lambda row: Text(state(row), _COLOURS.get(state(row), ""))),
    "step",
    TableColumn("BEGUN", lambda row: age(row.started_at)),
    TableColumn("TOOK", lambda row: took(row.seconds)),
    TableColumn("WAITS FOR", _waits),
)
