"""What an examination found, and what all examinations share."""

import statistics
from dataclasses import dataclass
from typing import Final, Literal

ROUNDS: Final = 20
TIMEOUT_SECONDS: Final = 30.0

Verdict = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined. A `fault` keeps muster from running correctly; `remedy` says what to do."""

    verdict: Verdict
    subject: str
    found: str
    remedy: str = ""


def median_ms(seconds: list[float]) -> float:
    """The median, in milliseconds."""
    return statistics.median(seconds) * 1000


def reason(error: BaseException) -> str:
    """The error's text, or its type's name when it has no text."""
    return str(error) or type(error).__name__
