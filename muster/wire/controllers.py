"""Controllers that share one log, as clients name them and as controllers name each other to clients. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from muster.wire.error import InvalidCommand

controllers_max: Final = 32
"""So many controllers one may be given, or be told of; further ones are left out of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveController:
    """A controller that lives: its name, new at each start, and the address at which others reach it."""

    controller: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveControllers:
    """The live controllers that share a log, the one that answers among them. One that has its log for itself names none."""

    cluster: str
    items: tuple[LiveController, ...]


LIVE_CONTROLLERS: Final = TypeAdapter(LiveControllers)


def urls_of(url: str | Sequence[str]) -> tuple[str, ...]:
    """The addresses of controllers: `http://a:8740`, `http://a:8740,http://b:8740`, or a sequence of such texts.

    Without a slash at their ends, each once, in the order given. Raises InvalidCommand.
    """
    texts = (url,) if isinstance(url, str) else url
    parts = [part.strip().rstrip("/") for text in texts for part in text.split(",")]
    found = tuple(dict.fromkeys(part for part in parts if part))
    for one in found:
        if not is_url(one):
            detail = f"url: {one[:200]!r} is no address of a controller; it looks like http://127.0.0.1:8740"
            raise InvalidCommand(detail, field="url")
    if not 0 < len(found) <= controllers_max:
        raise InvalidCommand(f"url: 1 to {controllers_max} addresses of controllers are wanted", field="url")
    return found


def is_url(text: str) -> bool:
    """Whether a controller may be asked at this address."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # Raises when it is no number, or too large.
    except ValueError:
        return False
    # A control character or a blank would end the address in a log, and two lines of HTTP in a request.
    plain = text.isprintable() and " " not in text
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
