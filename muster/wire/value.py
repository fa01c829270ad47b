"""Values: small immutable objects that are made very often."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def value(cls: type[T]) -> type[T]: ...
@overload
def value(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True)
def value(cls: type[T] | None = None, *, kw_only: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """A dataclass with slots that type checkers hold to be frozen.

    Freezing it at run time too would make each construction three times as expensive (measured: 1.6 instead of 0.5 µs for
    nine fields), and the folds do little else.
    """
    decorate = dataclass(slots=True, kw_only=kw_only)
    return decorate if cls is None else decorate(cls)
