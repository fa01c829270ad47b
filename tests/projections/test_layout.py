"""A row taken apart for a table is the same row when it is put together again."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from domain.registry.instance import InstanceMaintenanceSet
from muster.wire.registry.spec import Spec
from projections.catalogue import PROJECTIONS
from projections.layout import Layout
from projections.projection import Key, Projection
from projections.registry.history import HISTORY, HistoryRow
from projections.registry.instances import INSTANCES
from projections.registry.services import SERVICES, ServiceRow
from tests.projections.test_projections import instance_row
from tests.sample import EVENTS, FULL

INSTANCE = instance_row(EVENTS[0], InstanceMaintenanceSet(instance="a"))


@pytest.mark.parametrize(
    ("projection", "key", "row"),
    [
        (INSTANCES, ("orders", "a"), INSTANCE),
        (SERVICES, ("orders",), ServiceRow("orders", 1, 2, 3, 4)),
        (HISTORY, ("orders", "a"), HistoryRow(3, (0, 1, 2))),
    ],
)
def test_key_columns_and_rest_make_the_row_again(projection: Projection[Any], key: Key, row: Any) -> None:
    layout = Layout(projection)
    assert layout.row(key, layout.columns_of(row), layout.rest_of(row)) == row


def test_the_rest_is_what_key_and_columns_do_not_hold() -> None:
    assert [column.path for column in Layout(INSTANCES).rest] == [
        "spec.checks",
        "spec.lease_seconds",
        "spec.deregister_after_seconds",
        "spec.heartbeats",
        "checks",
        "maintenance",
        "draining",
        "fell",
        "suspect",
    ]


def test_what_is_shown_of_a_part_is_whether_it_is_there() -> None:
    shown = Layout(INSTANCES).shown(("orders", "a"), INSTANCE)
    assert (shown["address"], shown["maintenance"], shown["draining"]) == (FULL.address, True, False)


def test_every_read_model_shows_each_column_once() -> None:
    for projection in PROJECTIONS:
        names = [*projection.key, "partition", *(column.name for column in Layout(projection).columns)]
        assert len(set(names)) == len(names), projection.name


def test_a_column_that_the_row_does_not_have_is_found_at_once() -> None:
    with pytest.raises(AssertionError, match="no field and no property colour"):
        Layout(replace(SERVICES, columns=("colour",)))


@dataclass(frozen=True)
class Nested:
    """A row with a part of which only one field is a column."""

    id: str
    spec: Spec


def test_a_part_is_put_together_from_columns_and_rest() -> None:
    nested = replace(INSTANCES, row=Nested, columns=("spec.zone",))
    layout: Layout[Any] = Layout(nested)
    whole = Nested("a", FULL)
    assert layout.columns_of(whole) == (FULL.zone,)
    assert layout.row(("orders", "a"), layout.columns_of(whole), layout.rest_of(whole)) == whole
