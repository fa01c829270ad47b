"""Errors on every wire, both ways: an error as facts or as a problem (RFC 9457), and either of them as the error again.

error  →  facts {…context, name, detail, status}          in outcomes, between processes, in gRPC's metadata
facts  →  problem {type, title, …context, detail, status}  in HTTP answers
facts, problem  →  error of the same name
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import ValidationError

from muster.wire import error as errors
from muster.wire.error import BY_NAME, MusterError
from muster.wire.registry.check import ADDRESS_PATTERN, KINDS, URL_PATTERN
from muster.wire.stream import NAME_FORM, NAME_PATTERN

field_chars_max: Final = 200
"""Of the name of a field in a refusal: senders choose names, and of a long one they get no answer as long as that."""

fault_chars_max: Final = 1_000
_URN: Final = "urn:muster:"
# pydantic would show the pattern itself, which tells a person little.
_FORMS: Final = {
    NAME_PATTERN: NAME_FORM,
    ADDRESS_PATTERN: "must be a host name or an IP address, of IPv6 without brackets",
    URL_PATTERN: "must be an http:// or https:// URL with a host, and a port up to 65535 if any",
}
STATUS_BY_CLASS: Final[Mapping[type[MusterError], int]] = {
    errors.MusterError: 500,
    errors.Refused: 422,
    errors.ServiceNotFound: 404,
    errors.InstanceNotFound: 404,
    errors.VersionConflict: 412,
    errors.StaleIncarnation: 409,
    errors.TooLarge: 413,
    errors.WrongPartition: 421,
    errors.WrongCluster: 421,
    errors.NoHealthyInstances: 503,
    errors.NoAvailableInstances: 503,
    errors.KeyspaceNotFound: 404,
    errors.ShardNotFound: 404,
    errors.NodeNotFound: 404,
    errors.SagaNotFound: 404,
    errors.GroupNotFound: 404,
    errors.TrafficNotFound: 404,
    errors.MemberNotFound: 404,
    errors.NoPrimary: 503,
    errors.NoHealthyStandby: 503,
    errors.DataLossRefused: 409,
    errors.ShardOverflow: 413,
    errors.NoShardsAvailable: 503,
    errors.StaleEpoch: 409,
    errors.NotOwner: 409,
    errors.NodeCordoned: 409,
    errors.NodeTaken: 409,
    errors.MoveInProgress: 409,
    errors.ShardPinned: 409,
    errors.ChecksumMismatch: 409,
    errors.VerbNotAllowed: 409,
    errors.OtherLog: 409,
    errors.LogTrimmed: 410,
    errors.Transient: 503,
    errors.ResourceExhausted: 429,
    errors.Timeout: 504,
}
"""HTTP's status by class; a class that is not here has that of its family."""
_STANDARD: Final = frozenset(("type", "title", "name", "status", "detail", "instance_uri"))

Facts = dict[str, str | int]


def status_of(error: type[MusterError]) -> int:
    """The HTTP status of errors of this class."""
    return next(STATUS_BY_CLASS[family] for family in error.__mro__ if family in STATUS_BY_CLASS)


def facts_of(error: MusterError) -> Facts:
    """The error as outcomes carry it: `{…context, name, detail, status}`."""
    return {**error.context, "name": error.name, "detail": error.detail, "status": status_of(type(error))}


def verdict_of(error: MusterError) -> Literal["refused", "unknown"]:
    """What an outcome says of a command that ended in the error: refused for good, or not known to have been done."""
    return "refused" if status_of(type(error)) < 500 else "unknown"


def problem_from(facts: Mapping[str, Any]) -> dict[str, Any]:
    """An RFC 9457 problem from an error's facts; what else they say stands beside its standard fields."""
    name = str(facts["name"])
    more = {key: value for key, value in facts.items() if key != "name"}
    return {"type": f"{_URN}{name}", "title": _title(name), **more}


def error_from(problem: Mapping[str, Any], unknown: type[MusterError] = MusterError) -> MusterError:
    """The error that facts or a problem name; one of class `unknown` when only a newer version knows the name."""
    # Facts have a name, a problem has it only in its type.
    name = str(problem.get("name") or str(problem.get("type", "")).removeprefix(_URN))
    detail = str(problem.get("detail") or problem.get("title") or name)
    # Only plain facts are taken over: a problem from elsewhere may have anything beside its standard fields.
    context = {key: value for key, value in problem.items() if key not in _STANDARD and isinstance(value, str | int)}
    error = BY_NAME.get(name)
    return error(detail, **context) if error else unknown(f"{name}: {detail}", **context)


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first field that pydantic found wrong, by its path (empty: the whole), and the reason in plain words."""
    first = error.errors(include_url=False, include_input=False)[0]
    # Of a union's fields pydantic names the kind too, which is no field that the sender wrote.
    path = [str(part) for part in first["loc"] if part not in KINDS]
    reason = _FORMS.get(first.get("ctx", {}).get("pattern", ""), first["msg"].removeprefix("Value error, "))
    # A reason can hold what the sender wrote, like a kind that there is none of.
    return ".".join(path)[:field_chars_max], reason[:fault_chars_max]


def _title(name: str) -> str:
    """`VersionConflict` as "Version conflict"."""
    return "".join(f" {char.lower()}" if char.isupper() else char for char in name).strip().capitalize()
