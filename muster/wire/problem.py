"""Problems on the wire (RFC 9457, or the `error` of an outcome) as exceptions of the same names."""

from collections.abc import Mapping
from typing import Any, Final

from muster.wire.error import BY_NAME, MusterError

_URN: Final = "urn:muster:"
_STANDARD: Final = frozenset(("type", "title", "name", "status", "detail", "instance_uri"))


def error_from(problem: Mapping[str, Any]) -> MusterError:
    """The exception that the problem names; a plain MusterError when a newer controller uses a name unknown here."""
    name = str(problem.get("name") or str(problem.get("type", "")).removeprefix(_URN))
    detail = str(problem.get("detail") or problem.get("title") or name)
    context = {key: value for key, value in problem.items() if key not in _STANDARD and isinstance(value, str | int)}
    error = BY_NAME.get(name)
    return error(detail, **context) if error else MusterError(f"{name}: {detail}", **context)
