"""What an instance registers about itself: its address, and what discovery and health checks need to know."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any, ClassVar, Final, Literal, TypedDict

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from muster.wire.error import InvalidInstance
from muster.wire.problem import first_fault
from muster.wire.registry.check import ADDRESS_PATTERN, Check, Port, named
from muster.wire.value import value

Tag = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Checks = Annotated[tuple[Check, ...], Field(max_length=16), AfterValidator(named)]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=128)],
        Annotated[str, StringConstraints(max_length=4096)],
    ],
    Field(max_length=64),
]
# Up to a year.
Seconds = Annotated[float, Field(strict=True, ge=0.1, le=31_536_000)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=ADDRESS_PATTERN)]
# A tag that is given twice counts once; the order stays.
Tags = Annotated[tuple[Tag, ...], Field(max_length=64), AfterValidator(lambda tags: tuple(dict.fromkeys(tags)))]
Zone = Annotated[str, StringConstraints(max_length=128)]
Weight = Annotated[int, Field(strict=True, ge=0, le=65535)]
HeartbeatsVia = Literal["direct", "topic"]
"""How heartbeats come: to the controller, which keeps the time; or by Kafka's topic, where `muster telemetry` does."""

heartbeats_topic_seconds_min: Final = 10.0
"""The shortest lease, and ttl, that telemetry can keep: it takes over from a worker that was killed in about 6 s."""


def _is_direct(via: object) -> bool:
    return via == "direct"


@value(kw_only=True)
class Spec:
    """What an instance says of itself when it registers. Lengths are in seconds; no lease: it stays until removed."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    address: Address
    port: Port
    metadata: Metadata = field(default_factory=dict)
    tags: Tags = ()
    zone: Zone = ""
    weight: Weight = 1
    checks: Checks = ()
    lease_seconds: Seconds | None = None
    deregister_after_seconds: Seconds | None = None
    # Left out of the bytes where it is what it always was: events and the hashes of commands stay the same.
    heartbeats: Annotated[HeartbeatsVia, Field(exclude_if=_is_direct)] = "direct"


class SpecFields(TypedDict, total=False):
    """The optional fields of a Spec, as keywords of `Client.register`."""

    metadata: Mapping[str, str] | None
    tags: Sequence[str]
    zone: str
    weight: int
    checks: Sequence[Check]
    lease_seconds: float | None
    deregister_after_seconds: float | None
    heartbeats: HeartbeatsVia


SPEC: Final = TypeAdapter(Spec)


def spec_of(address: str, port: int, fields: SpecFields) -> Spec:
    """The spec of these fields, not validated: the controller does that."""
    plain: dict[str, Any] = dict(fields)
    # None counts as none.
    plain["metadata"] = dict(fields.get("metadata") or {})
    for name in ("tags", "checks"):
        plain[name] = tuple(plain.get(name, ()))
    return Spec(address=address, port=port, **plain)


def spec_from(fields: Mapping[str, Any]) -> Spec:
    """The spec of these fields. Raises InvalidInstance with the first field that is wrong."""
    try:
        return SPEC.validate_python(fields)
    except ValidationError as error:
        field_, reason = first_fault(error)
        raise InvalidInstance(f"{field_ or 'spec'}: {reason}", field=field_ or "spec") from None
