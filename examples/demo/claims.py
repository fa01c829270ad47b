"""What the demonstration says, and whether it is so: claims, each with its check's result, and measured figures."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence, whether it held, and what was found."""

    text: str
    ok: bool
    detail: str = ""


class Claims:
    """All claims and figures of a run. `say` is called with each claim as it is checked."""

    def __init__(self, say: Callable[[Claim], None] = lambda claim: None) -> None:
        self.made: list[Claim] = []
        self.figures: list[tuple[str, str]] = []
        self._say = say

    def claim(self, text: str, ok: bool, detail: str = "") -> bool:
        """Note the claim with its result, and give the result back."""
        claim = Claim(text, ok, detail)
        self.made.append(claim)
        self._say(claim)
        return ok

    def figure(self, name: str, value: str) -> None:
        """Note a measured figure."""
        self.figures.append((name, value))

    @property
    def held(self) -> int:
        """How many held."""
        return sum(claim.ok for claim in self.made)

    @property
    def exit_code(self) -> int:
        """0 when there are claims and all held, else 1."""
        return 0 if self.made and self.held == len(self.made) else 1
