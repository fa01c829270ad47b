"""Problems on the wire (RFC 9457, or the `error` of an outcome) as exceptions of the same names."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from muster.wire.check import KINDS, URL_PATTERN
from muster.wire.error import BY_NAME, MusterError
from muster.wire.stream import NAME_PATTERN

_URN: Final = "urn:muster:"
_FORMS: Final = {
    NAME_PATTERN: "must be 1 to 128 letters, digits, . _ - and begin with a letter or digit",
    URL_PATTERN: "must be an http:// or https:// URL with a host, and a port up to 65535 if any",
}
_STANDARD: Final = frozenset(("type", "title", "name", "status", "detail", "instance_uri"))


def error_from(problem: Mapping[str, Any]) -> MusterError:
    """The exception that the problem names; a plain MusterError when a newer controller uses a name unknown here."""
    name = str(problem.get("name") or str(problem.get("type", "")).removeprefix(_URN))
    detail = str(problem.get("detail") or problem.get("title") or name)
    context = {key: value for key, value in problem.items() if key not in _STANDARD and isinstance(value, str | int)}
    error = BY_NAME.get(name)
    return error(detail, **context) if error else MusterError(f"{name}: {detail}", **context)


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first field that pydantic found wrong, by its path (empty: the whole), and the reason in plain words."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in first["loc"] if part not in KINDS]
    reason = _FORMS.get(first.get("ctx", {}).get("pattern", ""), first["msg"].removeprefix("Value error, "))
    return ".".join(path), reason
