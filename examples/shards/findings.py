"""What the checker has looked at, and what it holds to be wrong."""

from dataclasses import asdict, dataclass, field
from typing import Any, Final

BREACHES_TOLD_MAX: Final = 50


@dataclass(slots=True)
class Findings:
    """Counts of what was looked at; `breaches` in the order in which they were found."""

    breaches: list[str] = field(default_factory=list)
    events: int = 0
    completed: int = 0
    compensated: int = 0
    bytes_moved: int = 0
    shards: int = 0
    pairs: int = 0
    writes: int = 0
    unknown: int = 0
    exceptions: int = 0
    reads: int = 0
    longest_write_seconds: float = 0.0

    def breach(self, what: str) -> None:
        """This is wrong."""
        self.breaches.append(what)

    def shown(self) -> dict[str, Any]:
        """As JSON; not more than the first breaches."""
        told = asdict(self)
        return {**told, "breaches": self.breaches[:BREACHES_TOLD_MAX], "breaches_in_all": len(self.breaches)}
