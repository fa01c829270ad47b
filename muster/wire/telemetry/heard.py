"""What a controller answers to heartbeats of many instances."""

from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class UnheardInstance:
    """An instance that was not heard; `error` says why, as `{name, detail, status, …}`."""

    service: str
    instance: str
    error: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatsHeard:
    """How many instances were heard, and which were not: those that are gone, or of another incarnation now."""

    renewed: int
    refused: tuple[UnheardInstance, ...] = ()


# Made once, with the module: to make one costs far more than to use it.
HEARTBEATS_HEARD: Final = TypeAdapter(HeartbeatsHeard)
