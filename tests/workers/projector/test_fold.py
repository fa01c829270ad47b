"""A fold that holds only the newest rows: what it must be given from a store, and what it knows without."""

import pytest

from domain.registry.instance import Instance
from projections.projection import Key
from projections.registry.instances import INSTANCES
from tests.sample import registered
from tests.workers.writer.history import History
from workers.projector import fold as module
from workers.projector.fold import Fold


async def of_four_instances(*, complete: bool = True) -> Fold[Instance]:
    """A fold with room for two rows that has folded and handed out a, b, c and d: a and b have left it."""
    history = History()
    for number, name in enumerate("abcd"):
        await history.add(("service/orders", registered(name, incarnation=number)))
    fold = Fold(INSTANCES, rows_max=2, complete=complete)
    for first in (0, 2):
        fold.apply(history.recorded[first : first + 2])
        fold.take()
    fold.apply([])
    fold.take()
    return fold


def missing(fold: Fold[Instance], names: str) -> set[Key]:
    return set(fold.missing(("orders", name) for name in names))


async def test_a_row_that_has_left_is_looked_up() -> None:
    assert missing(await of_four_instances(), "abcd") == {("orders", "a"), ("orders", "b")}


async def test_a_new_key_is_not_looked_up_though_others_have_left() -> None:
    assert missing(await of_four_instances(), "xyz") == set()


async def test_over_a_store_that_may_hold_anything_every_unknown_key_is_looked_up() -> None:
    assert missing(await of_four_instances(complete=False), "dx") == {("orders", "x")}


async def test_when_too_many_have_left_every_unknown_key_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "left_keys_max", 1)
    assert missing(await of_four_instances(), "dx") == {("orders", "x")}
