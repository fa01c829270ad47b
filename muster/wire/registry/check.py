"""Health checks: what is asked of an instance, how often, and how results become a status.

A check is `http`, `https`, `tcp` or `ttl`. The first result decides an unknown check; afterwards `healthy_after` successes
in a row make it healthy and `unhealthy_after` failures in a row make it unhealthy. An instance's health is the worst
of its checks (unhealthy, unknown, healthy); with no checks it is healthy.
"""

from collections.abc import Collection, Sequence
from dataclasses import field, fields, replace
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter

from muster.wire.command import Flag
from muster.wire.stream import Name
from muster.wire.value import value

Health = Literal["healthy", "unhealthy", "unknown"]

REPORTED: Final = "reported"
"""The name of the check that `ReportHealth` sets when it names none."""

_WORST_FIRST: Final[tuple[Health, ...]] = ("unhealthy", "unknown", "healthy")


def worst(statuses: Collection[Health]) -> Health:
    """The worst of the statuses; healthy when there are none."""
    for status in _WORST_FIRST:
        if status in statuses:
            return status
    return "healthy"


ADDRESS_PATTERN: Final = r"^[A-Za-z0-9:._%-]+$"
# Its second line is the port, at most 65535.
URL_PATTERN: Final = (
    r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)"
    r"(:(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]?\d{1,4}))?([/?#]\S*)?$"
)
Url = Annotated[str, StringConstraints(max_length=2048, pattern=URL_PATTERN)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
DEFAULT_TIMEOUT_SECONDS: Final = 2.0
TIMEOUT_SECONDS_MAX: Final = 60.0
# Up to a day.
Interval = Annotated[float, Field(strict=True, ge=0.1, le=86_400)]
Timeout = Annotated[float, Field(strict=True, ge=0.01, le=3_600)]
Count = Annotated[int, Field(strict=True, ge=1, le=100)]

# A field with a typing mistake would otherwise be ignored without a word.
_FORBID: Final = ConfigDict(extra="forbid")


@value(kw_only=True)
class HttpCheck:
    """Healthy when `url` answers with `expected_status` (any 2xx when None) and, if asked, a body that contains `body_match`."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID
    url: Url
    kind: Literal["http"] = "http"
    name: Name = "http"
    method: Literal["GET", "HEAD", "POST", "PUT", "OPTIONS"] = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    expected_status: Annotated[int, Field(strict=True, ge=100, le=599)] | None = None
    body_match: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    interval_seconds: Interval = 10.0
    timeout_seconds: Timeout = DEFAULT_TIMEOUT_SECONDS
    healthy_after: Count = 1
    unhealthy_after: Count = 2


@value(kw_only=True)
class HttpsCheck(HttpCheck):
    """As HttpCheck, of an https URL, with a say in TLS: `server_name` is the name that the certificate has to be for, where it
    is not the URL's host; `ca_pem` are the certificates to trust instead of the system's, as PEM text; `skip_verify` trusts any.

    A kind of its own, because clients of the first release refuse an http check with fields that they do not know.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID
    kind: Literal["https"] = "https"  # type: ignore[assignment]
    name: Name = "https"
    server_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    ca_pem: Annotated[str, StringConstraints(min_length=1, max_length=16_384)] | None = None
    skip_verify: Flag = False


@value(kw_only=True)
class TcpCheck:
    """Healthy when a connection to `host`:`port` is accepted."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID
    host: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    port: Port
    kind: Literal["tcp"] = "tcp"
    name: Name = "tcp"
    interval_seconds: Interval = 10.0
    timeout_seconds: Timeout = DEFAULT_TIMEOUT_SECONDS
    healthy_after: Count = 1
    unhealthy_after: Count = 2


@value(kw_only=True)
class TtlCheck:
    """Healthy as long as the instance sends a heartbeat, or a report of this check, every `ttl_seconds`."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID
    ttl_seconds: Annotated[float, Field(strict=True, ge=0.1, le=86_400)]
    kind: Literal["ttl"] = "ttl"
    name: Name = "ttl"


def timeout_seconds_max(check: "HttpCheck | TcpCheck") -> float:
    """How long a run may take: its interval, and 60 s. The default is never too long: who says nothing is not refused."""
    return min(TIMEOUT_SECONDS_MAX, max(check.interval_seconds, DEFAULT_TIMEOUT_SECONDS))


_SETTINGS: Final = ("interval_seconds", "timeout_seconds", "healthy_after", "unhealthy_after", "ttl_seconds")
"""What says how often and how strictly is asked, and not what."""


def asks_the_same(check: "HttpCheck | TcpCheck | TtlCheck", other: "HttpCheck | TcpCheck | TtlCheck") -> bool:
    """Whether both ask the same of the same, however often and however strictly: what one has found then holds for the other."""
    if type(check) is not type(other):
        return False
    asked = (field.name for field in fields(check) if field.name not in _SETTINGS)
    return all(getattr(check, name) == getattr(other, name) for name in asked)


def same_asked(
    before: "Sequence[HttpCheck | TcpCheck | TtlCheck]", checks: "Sequence[HttpCheck | TcpCheck | TtlCheck]"
) -> tuple[str, ...]:
    """Those of the checks that ask what the one of that name asked before, with other settings."""
    known = {check.name: check for check in before}
    return tuple(
        check.name
        for check in checks
        if (old := known.get(check.name)) is not None and old != check and asks_the_same(old, check)
    )


KINDS: Final = frozenset(("http", "https", "tcp", "ttl"))
# By its kind, so that an error names this kind's fault alone and not those of all three.
Check = Annotated[HttpCheck | HttpsCheck | TcpCheck | TtlCheck, Field(discriminator="kind")]

CHECKS: Final[TypeAdapter[tuple[HttpCheck | TcpCheck | TtlCheck, ...]]] = TypeAdapter(tuple[Check, ...])


def named(checks: tuple[HttpCheck | TcpCheck | TtlCheck, ...]) -> tuple[HttpCheck | TcpCheck | TtlCheck, ...]:
    """The checks, each with a name of its own. One that was given no name is called by its kind: `http`, `http-2`, …"""
    names = [check.name for check in checks]
    if REPORTED in names:
        raise ValueError(f"the name {REPORTED!r} is kept for reported health")
    if len(set(names)) == len(names):
        return checks
    taken, result = set(names), []
    for index, check in enumerate(checks):
        # The first of a name keeps it; only later ones get a number.
        if check.name in names[:index]:
            # Any other name was chosen by somebody, and is not changed without a word.
            if check.name != check.kind:
                raise ValueError(f"two checks are called {check.name!r}")
            # As many numbers as there are checks, of which one at least has none: so one is always free.
            number = next(n for n in range(2, len(checks) + 2) if f"{check.kind}-{n}" not in taken)
            check = replace(check, name=f"{check.kind}-{number}")
            taken.add(check.name)
        result.append(check)
    return tuple(result)
