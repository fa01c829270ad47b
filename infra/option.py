"""What the values of options may be: told at the start by the option's name, and not when the value is first used.

Each function returns its value and raises ValueError with the reason, which quotes no password.
"""

import re
from typing import Final
from urllib.parse import parse_qs, urlsplit

from muster.wire.stream import NAME

LOCAL: Final = "local"
"""The value of `kafka` and `postgres` that starts real servers from packages, under the data folder."""

schema_chars_max: Final = 63
prefix_chars_max: Final = 200
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def listen_address(text: str) -> str:
    """HOST:PORT of a listener; port 0: a free one."""
    host, _, port = text.rpartition(":")
    if not host or not _is_port(port) or host.startswith("[") != host.endswith("]") or (":" in host and host[0] != "["):
        raise ValueError(f"{text!r} is not HOST:PORT; an IPv6 address stands in brackets")
    return text


def reached_address(text: str) -> str:
    """HOST:PORT at which others reach something, so not port 0."""
    if listen_address(text).endswith(":0"):
        raise ValueError(f"{text!r} names no port at which anybody could be reached")
    return text


def web_address(text: str) -> str:
    """An absolute URL of http or https."""
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"{text!r} is no URL like http://10.0.0.1:8740")
    return text


def kafka_address(text: str) -> str:
    """`local`, or HOST[:PORT] of one broker or several, with commas between them."""
    for server in text.split(","):
        if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(:\d+)?", server) or not _is_server(server):
            raise ValueError(f"{text!r} is neither `local` nor HOST:PORT of a broker")
    return text


def postgres_address(text: str) -> str:
    """`local`, or a DSN of PostgreSQL; what it says of servers is checked, not whether they answer."""
    if text == LOCAL:
        return text
    try:
        parts = urlsplit(text)
        query = parse_qs(parts.query)
    except ValueError:
        raise ValueError("it is no DSN: a bracket of its host does not fit") from None
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError("it is neither `local` nor a DSN like postgresql://user:password@host:5432/database")
    for server in parts.netloc.rpartition("@")[2].split(","):
        if not _is_server(server):
            raise ValueError(f"{server!r} in the DSN is not HOST:PORT")
    if (mode := query.get("sslmode", ["disable"])[0]) not in _SSL_MODES:
        raise ValueError(f"sslmode is {mode!r} in the DSN; it is one of {', '.join(_SSL_MODES)}")
    return text


def topic_prefix(text: str) -> str:
    """What the names of topics begin with: letters, digits, dots, underscores and hyphens, as Kafka wants it."""
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{prefix_chars_max}}}", text):
        raise ValueError(
            f"{text!r} is not 1 to {prefix_chars_max} letters of a to z, digits, dots, underscores and hyphens"
        )
    return text


def schema_name(text: str) -> str:
    """A schema of PostgreSQL; in statements it stands in quotes, so any word may be one."""
    if not re.fullmatch(rf"[a-z0-9_]{{1,{schema_chars_max}}}", text):
        raise ValueError(f"{text!r} is not 1 to {schema_chars_max} small letters of a to z, digits and underscores")
    if text.startswith("pg_"):
        raise ValueError(f"{text!r} begins with pg_, which PostgreSQL keeps for itself")
    return text


def schema_of(prefix: str) -> str:
    """The schema that belongs to a prefix of topics: all that a schema's name cannot hold becomes an underscore."""
    return schema_name(re.sub(r"[^a-z0-9_]", "_", prefix.lower()))


def node_name(text: str) -> str:
    """What a data node may be called."""
    if not re.fullmatch(NAME, text):
        raise ValueError(f"{text!r} is no name: 1 to 128 letters of a to z, digits, dots, underscores and hyphens")
    return text


def cluster_name(text: str) -> str:
    """A cluster's name, which stands in events and headers."""
    if not text.strip() or not text.isprintable():
        raise ValueError("it is empty, or has characters that cannot be shown")
    return text


def _is_server(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    # Without a port the default is meant; a colon within brackets is the address's own.
    return not colon or "]" in port or (("[" in host) == ("]" in host) and _is_port(port))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= 65_535
