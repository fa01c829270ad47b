"""Rows of figures: each a median of several runs beside its target and its floor; printed as a table, written as JSON."""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.pace import PACE, loop_ns

PACKAGES: Final = ("aiokafka", "asyncpg", "eventsourcing", "orjson", "pydantic", "uvicorn", "uvloop")
_WIDTH_PIPED: Final = 200
_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be reached: at most or at least `value`."""

    bound: Literal["≤", "≥", "<"]
    value: float

    def reached(self, figure: float) -> bool:
        match self.bound:
            case "≤":
                return figure <= self.value
            case "<":
                return figure < self.value
            case "≥":
                return figure >= self.value


def at_most(value: float) -> Target:
    return Target("≤", value)


def below(value: float) -> Target:
    return Target("<", value)


def at_least(value: float) -> Target:
    return Target("≥", value)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one case. `floor` is what the machine does without muster, in the same unit (None: there is none).

    `notes` say what the case cost elsewhere: shares of a core in percent, memory in MB.
    """

    case: str
    title: str
    engine: str
    figure: str
    unit: str
    runs: list[float]
    target: Target | None = None
    floor: float | None = None
    floor_is: str = ""
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return median(self.runs)

    @property
    def reached(self) -> bool | None:
        return None if self.target is None else self.target.reached(self.median)

    @property
    def ratio(self) -> float | None:
        return None if not self.floor else self.median / self.floor


def shown(number: float) -> str:
    """Three digits that count: 0.84, 12.3, 4,980."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def show(rows: list[Row]) -> None:
    """Print the table."""
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH_PIPED)
    table = Table(title="muster beside the floor of the same machine; the median of the runs, in brackets min-max")
    for name in ("case", "engine", "figure"):
        table.add_column(name)
    for name in ("median", "min-max", "target", "", "floor", "ratio"):
        table.add_column(name, justify="right")
    table.add_column("besides", style="dim")
    before = ""
    for row in rows:
        if before and row.title != before:
            table.add_section()
        table.add_row(*_cells(row, "" if row.title == before else row.title))
        before = row.title
    console.print(table)


def _cells(row: Row, title: str) -> list[str | Text]:
    target = "" if row.target is None else f"{row.target.bound} {shown(row.target.value)}"
    verdict = {None: Text(""), True: Text("yes", "green"), False: Text("NO", "bold red")}[row.reached]
    notes = ", ".join(f"{name} {shown(value)}" for name, value in row.notes.items())
    return [
        title,
        row.engine,
        row.figure,
        f"{shown(row.median)} {row.unit}",
        f"{shown(min(row.runs))}-{shown(max(row.runs))}",
        target,
        verdict,
        "" if row.floor is None else shown(row.floor),
        "" if row.ratio is None else f"{shown(row.ratio)}×",
        Text("; ".join(part for part in (row.floor_is and f"floor: {row.floor_is}", notes) if part)),
    ]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load_average": os.getloadavg()[0],
        "python_loop_ns": loop_ns(),
        "waited_seconds": PACE.waited_seconds,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """The commit that is checked out; `+` when files differ from it; empty outside of a repository."""
    git = ["git", "-C", str(_FOLDER)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if dirty.returncode else "")


def write(path: Path, rows: list[Row], *, scale: float) -> None:
    """Write the rows. Those of cases that did not run now are kept; each row says when and of which commit it is."""
    now = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "scale": scale}
    known = orjson.loads(path.read_bytes())["rows"] if path.exists() else []
    fresh = {row.case for row in rows}
    kept = [document for document in known if document["case"] not in fresh]
    documents = [*kept, *({**_document(row), **now} for row in rows)]
    path.write_bytes(orjson.dumps({"machine": machine(), "rows": documents}, option=orjson.OPT_INDENT_2) + b"\n")


def _document(row: Row) -> dict[str, Any]:
    return {
        "case": row.case,
        "title": row.title,
        "engine": row.engine,
        "figure": row.figure,
        "unit": row.unit,
        "median": row.median,
        "runs": row.runs,
        "target": None if row.target is None else f"{row.target.bound} {row.target.value}",
        "reached": row.reached,
        "floor": row.floor,
        "floor_is": row.floor_is,
        "ratio": row.ratio,
        "notes": row.notes,
    }
