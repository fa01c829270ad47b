"""The clock by which every lease is counted: those of data nodes and those of the primaries of groups."""

import time
from typing import Final

_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed_seconds() -> float:
    """Seconds on a clock that is never set and that goes on while the machine is suspended, where there is such a one (Linux).

    The controller's clock goes on while this machine sleeps. A lease that was counted on a clock that sleeps with the machine
    (`time.monotonic()`) would be over there, and held here. On other systems that is still so.
    """
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
