"""What the demonstration shows: a live table on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterable, Mapping
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from examples.demo.claims import Claim, Claims
from examples.demo.compare import Key
from muster import Appeared, Change, Changed, HistoryEntry, Instance, Removed, Snapshot

_WIDTH_OF_PIPES: Final = 140
_COLOURS: Final = {"healthy": "green", "unhealthy": "red", "unknown": "yellow"}
HIDDEN: Final = "burst"
"""The service that is left out of the table: it has hundreds of instances."""


class Screen:
    """Use as `with Screen() as screen`."""

    def __init__(self) -> None:
        self._steps = 0
        terminal = sys.stdout.isatty()
        self._console = Console(width=None if terminal else _WIDTH_OF_PIPES, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, text: str) -> None:
        """Begin a step of the story."""
        self._steps += 1
        self.heading(f"{self._steps}. {text}")

    def heading(self, text: str) -> None:
        """Begin something else."""
        self._console.print(f"\n{text}", style="bold", soft_wrap=True)

    def line(self, text: str) -> None:
        """One line of what happens."""
        self._console.print(Text(f"  {text}"), soft_wrap=True)

    def claim(self, claim: Claim) -> None:
        """A checked claim."""
        sign, style = ("✓", "green") if claim.ok else ("✗", "bold red")
        detail = f" — {claim.detail}" if claim.detail else ""
        self._console.print(Text.assemble((f"  {sign} ", style), claim.text, (detail, "dim")), soft_wrap=True)

    def change(self, change: Change) -> None:
        """A change that the watcher has heard."""
        told = _told(change)
        if told is not None:
            self._console.print(Text(f"  · watcher: {told}", "cyan"), soft_wrap=True)

    def instances(self, instances: Mapping[Key, Instance]) -> None:
        """The table: replaced in place on a terminal, else printed by `table`."""
        if self._live is not None:
            self._live.update(_table(instances.values()), refresh=True)

    def table(self, instances: Mapping[Key, Instance]) -> None:
        """The table as it is now, where no live one is shown."""
        if self._live is None:
            self._console.print(_table(instances.values()))

    def history(self, entries: Iterable[HistoryEntry]) -> None:
        """What, when, who, why."""
        drawn = Table("WHEN", "WHAT", "", "WHO", "WHY", box=None, pad_edge=False, header_style="bold")
        for entry in entries:
            what = entry.type.removeprefix("muster.instance.").removesuffix(".v1")
            who, why = entry.actor or "", entry.reason or ""
            drawn.add_row(f"{entry.at:%H:%M:%S.%f}"[:-3], what, _fact(entry), who, why)
        self._console.print(drawn)

    def summary(self, claims: Claims, seconds: float) -> None:
        """All figures, all claims, and the verdict."""
        self.heading("Measured")
        figures = Table(box=None, pad_edge=False, show_header=False)
        for name, value in claims.figures:
            figures.add_row(f"  {name}", value)
        self._console.print(figures)
        self.heading("Claims")
        for claim in claims.made:
            self.claim(claim)
        style = "bold green" if claims.exit_code == 0 else "bold red"
        self._console.print(f"\n{claims.held} of {len(claims.made)} claims held, in {seconds:.1f} s", style=style)


def _table(instances: Iterable[Instance]) -> Table:
    drawn = Table(
        "SERVICE", "INSTANCE", "ENDPOINT", "HEALTH", "CHECKS", "STATE", "CAUSE", box=None, header_style="bold"
    )
    for row in sorted(instances, key=lambda row: (row.service, row.instance)):
        if row.service != HIDDEN:
            checks = ", ".join(f"{name} {check.status}" for name, check in row.check_status.items())
            state = " ".join(name for name in ("maintenance", "draining") if getattr(row, name))
            health = Text(row.health, _COLOURS[row.health])
            drawn.add_row(row.service, row.instance, row.endpoint, health, checks, state, row.cause or "")
    return drawn


def _told(change: Change) -> str | None:
    match change:
        case Snapshot(instances=instances):
            return f"{len(instances)} instances, watching from {change.token or 'the start'}"
        case Appeared(instance=row) if row.service != HIDDEN:
            return f"{row.instance} is registered at {row.endpoint}, {row.health}"
        case Changed(instance=row, before=before) if row.service != HIDDEN:
            if row.health != before.health:
                return f"{row.instance} {before.health} → {row.health}" + (f" ({row.cause})" if row.cause else "")
            return f"{row.instance} changed: {', '.join(sorted(change.fields - {'discoverable'}))}"
        case Removed(instance=row) if row.service != HIDDEN:
            return f"{row.instance} is gone ({change.cause})"
        case _:
            return None


def _fact(entry: HistoryEntry) -> str:
    data = entry.data
    match entry.type.removeprefix("muster.instance.").removesuffix(".v1"):
        case "registered":
            return f"{data['spec']['address']}:{data['spec']['port']}, incarnation {data['incarnation']}"
        case "health_changed":
            return f"{data['from']} → {data['to']}" + (f": {data['cause']}" if data.get("cause") else "")
        case "address_changed":
            return f"{data['address']}:{data['port']}"
        case "deregistered":
            return str(data["cause"])
        case _:
            return ""
