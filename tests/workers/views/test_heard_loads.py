"""What instances say of their load over HTTP, summed up."""

from datetime import UTC, datetime, timedelta

import pytest

from infra.telemetry.rows import LoadRecord
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from muster.wire.telemetry.loads import ServiceLoad, encode_row, key_of
from workers.views import heard_loads
from workers.views.heard_loads import HeardLoads, heard_seconds_max
from workers.views.loads import Loads, fresh_seconds

AT = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Ears:
    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.loads = HeardLoads(lambda: self.seconds, lambda: AT)

    def hears(self, *beats: Beat, service: str = "orders", refused: tuple[str, ...] = ()) -> "Ears":
        self.loads.hear(Heartbeats("host-7", service, list(beats)), refused)
        return self


def test_the_newest_word_of_each_instance_counts() -> None:
    ears = Ears().hears(Beat("a", 1, 5.0), Beat("b", 1, 7.0, 2.0)).hears(Beat("a", 2, 1.0, 0.5))
    ears.seconds += 3
    assert ears.loads.load("orders") == ServiceLoad(
        service="orders", instances=2, heard=2, in_flight=8.0, per_second=2.5, at=AT - timedelta(seconds=3)
    )


def test_who_says_nothing_of_its_load_or_is_refused_has_none() -> None:
    ears = Ears().hears(Beat("a", 1), Beat("b", 1, None, None), Beat("c", 1, 9.0), refused=("c",))
    assert ears.loads.load("orders") is None


def test_what_is_old_is_no_load_of_now() -> None:
    ears = Ears().hears(Beat("a", 1, 5.0))
    ears.seconds += heard_seconds_max
    assert ears.hears(Beat("b", 1, 1.0)).loads.load("orders").heard == 2  # type: ignore[union-attr]
    ears.seconds += 1
    assert ears.loads.load("orders").in_flight == 1.0  # type: ignore[union-attr]


def test_names_that_come_and_go_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard_loads, "instances_max", 2)
    ears = Ears().hears(Beat("a", 1, 5.0)).hears(Beat("b", 1, 5.0), service="users")
    ears.seconds += heard_seconds_max + 1
    ears.hears(Beat("c", 1, 1.0))
    assert list(ears.loads.services()) == ["orders"]
    assert ears.loads.load("orders").heard == 1  # type: ignore[union-attr]


def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard_loads, "instances_max", 2)
    ears = Ears().hears(Beat("a", 1, 1.0), Beat("b", 1, 1.0), Beat("c", 1, 1.0), Beat("a", 1, 5.0))
    assert ears.loads.load("orders").in_flight == 6.0  # type: ignore[union-attr]


def test_telemetry_is_believed_before_what_came_over_http() -> None:
    seconds = 1_000.0
    loads = Loads(lambda: seconds)
    loads.hear(Heartbeats("host-7", "orders", [Beat("a", 1, 5.0)]), ())
    row = ServiceLoad(service="orders", instances=3, heard=2, in_flight=7.0, at=AT)
    loads.take(LoadRecord(key_of(row).encode(), encode_row(row), 0.0))
    assert loads.service("orders") == row
    seconds += fresh_seconds + 1
    assert [load.in_flight for load in loads.services()] == [5.0]
