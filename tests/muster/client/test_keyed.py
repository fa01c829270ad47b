"""The rows that a watch tells of."""

from typing import Any

import orjson

from muster.client.rows import Keyed


def take(rows: Keyed, event: str, **data: Any) -> list[tuple[str, ...]]:
    return list(rows.take(event, orjson.dumps(data), "0:1"))


def held() -> Keyed:
    rows = Keyed("id")
    take(rows, "snapshot", items=[{"id": "a", "n": 1}, {"id": "b", "n": 1}])
    return rows


def test_a_snapshot_is_told_also_when_it_is_empty():
    assert take(Keyed("id"), "snapshot", items=[]) == [()]


def test_a_delta_tells_what_has_changed_in_its_order_and_what_is_gone():
    rows = held()
    changed = take(rows, "delta", items=[{"id": "a", "n": 2}, {"id": "c", "n": 1}], gone=["b", "x"])
    assert changed == [("a", "c", "b")]
    assert rows.rows == {"a": {"id": "a", "n": 2}, "c": {"id": "c", "n": 1}}


def test_what_came_as_it_was_has_not_changed():
    assert take(held(), "delta", items=[{"id": "a", "n": 1}]) == [()]


def test_a_snapshot_behind_a_reset_replaces_all_and_tells_the_difference():
    rows = held()
    assert take(rows, "reset") == []
    assert take(rows, "snapshot", items=[{"id": "b", "n": 1}, {"id": "c", "n": 1}]) == [("c", "a")]
    assert set(rows.rows) == {"b", "c"}
