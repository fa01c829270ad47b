"""Shapes: what answers look like, made from the published language's dataclasses.

The fields of an answer are named where the client reads them, in `muster.wire`. The client is lenient: it ignores what it does
not know, and has a default for what an older controller leaves out. The server promises more: every field is there, and no
other one. Shapes say so in the OpenAPI document, and tests hold the answers against them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

Parts = Mapping[object, type[BaseModel]]
"""Shapes by what they stand for: a dataclass, or the type variable of a generic one."""

_NONE: Final[Parts] = MappingProxyType({})


class Shape(BaseModel):
    """What all shapes share: nothing undocumented is sent."""

    model_config = ConfigDict(extra="forbid")


def shape(
    source: type,
    name: str,
    text: str | None = None,
    *,
    base: type[Shape] = Shape,
    parts: Parts = _NONE,
    without: Sequence[str] = (),
    first: Sequence[str] = (),
    **types: object,
) -> type[Shape]:
    """The shape of a dataclass, with all of its fields, all required; `text` describes it, or else the docstring does.

    `base` is a shape that this one adds fields to; `parts` has the shapes of the dataclasses in the fields. The fields are in
    the order of the dataclass, but for the `first` ones: what a class inherits may belong behind what it adds. `types` are those
    of which the server promises more than the client relies on; with a default, the server too may leave out the field.
    """
    hints = get_type_hints(source, include_extras=True)
    own = [field.name for field in fields(source) if field.name not in {*base.model_fields, *first, *without}]
    # Otherwise a field that was renamed would silently lose what is said of it here.
    assert {*without, *first, *types} <= hints.keys(), f"{name} has no {({*without, *first, *types}) - hints.keys()}"
    found: dict[str, Any] = {field: types.get(field) or _shown(hints[field], parts) for field in (*first, *own)}
    return create_model(name, __base__=base, __doc__=text or source.__doc__, **found)


def _shown(type_: Any, parts: Parts) -> Any:
    """The type as JSON has it: arrays are lists, and what has a shape is shown by that."""
    kind, inner = get_origin(type_), get_args(type_)
    if kind is tuple:
        return list[_shown(inner[0], parts)]  # type: ignore[misc]
    if kind is dict:
        return dict[inner[0], _shown(inner[1], parts)]  # type: ignore[valid-type, misc]
    if kind in (Union, UnionType):
        # Words that clients leave open, for those of newer controllers: this one says no others than those it names.
        closed = any(get_origin(one) is Literal for one in inner)
        return Union[tuple(_shown(one, parts) for one in inner if not (closed and one is str))]  # noqa: UP007
    # Other types with something inside them (of checks, or of literal words) may not be hashable, and are no parts.
    return type_ if inner else parts.get(type_, type_)
