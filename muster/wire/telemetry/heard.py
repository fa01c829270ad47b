"""What a controller answers to heartbeats of many instances, and to what clients saw of them."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationsTaken:
    """Of how many instances it was taken what clients saw; the others are not there, or there is no room for more observers."""

    taken: int


# Made once, with the module: to make one costs far more than to use it.
HEARTBEATS_HEARD: Final = TypeAdapter(HeartbeatsHeard)
