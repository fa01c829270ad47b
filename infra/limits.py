"""What one client may take of a controller. Each limit has its name in the refusal or in the log line that tells of it.

`muster up --limit NAME=VALUE` sets any of them; `docs/limits.md` lists them among all others.
"""

import resource
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from muster.wire.error import NotReady

files_kept_min: Final = 64
"""Files that stay free for what is not a client's connection: the log, checks, other controllers."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The limits of connections over HTTP; what happens beyond each stands in `docs/limits.py`."""

    connections_max: int = 10_000
    head_bytes_max: int = 32_768
    head_fields_max: int = 100
    head_seconds_max: float = 10.0
    body_silent_seconds_max: float = 10.0
    queued_requests_max: int = 16
    unread_seconds_max: float = 30.0


def limits_from(texts: Sequence[str]) -> ClientLimits:
    """The limits with these changes, each `NAME=VALUE`. Raises NotReady for an unknown name and for what is no such value."""
    known = {field.name: field for field in fields(ClientLimits)}
    changed: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise NotReady(f"--limit {text!r}: there is no such limit; there are {', '.join(known)}")
        try:
            changed[name] = int(value) if known[name].type is int else float(value)
        except ValueError:
            changed[name] = 0
        # Not a number is not above zero either.
        if not 0 < changed[name] < float("inf"):
            raise NotReady(f"--limit {text!r}: {name} is a number above 0")
    # Every field is a number of the type that was made above.
    return replace(ClientLimits(), **changed)  # type: ignore[arg-type]


def files_free() -> int:
    """How many connections this process may have open at a time, so that files are left for all else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, files - max(files_kept_min, files // 4)) if files > 0 else 1 << 30


def raise_files() -> None:
    """Take as many open files as the system allows: what a shell gives, often 1,024, is a default for other programs."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
