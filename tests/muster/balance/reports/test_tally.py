"""What a balancer tells of each instance: what has ended since it was last asked, and nothing twice."""

from dataclasses import dataclass, field

import pytest

from muster.balance.fleet import Fleet
from muster.balance.picker import CallOutcome, Picker
from muster.balance.reports.tally import Tally
from muster.wire.registry.traffic import DEFAULTS
from muster.wire.telemetry.observations import Observation
from tests.muster.balance.instances import instance, removed, snapshot


@dataclass
class Client:
    """Calls of one instance, in turn, and what there is to tell of them."""

    fleet: Fleet = field(default_factory=lambda: Fleet("c"))
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.picker = Picker("users", self.fleet, DEFAULTS)
        self.fleet.take(snapshot(instance("a", incarnation=4)), 0.0)

    def calls(self, *outcomes: CallOutcome, seconds: float = 0.1, timed: bool = True) -> None:
        for outcome in outcomes:
            candidate = self.picker.pick("critical", (), 0, 0.0, 0.0)
            self.picker.record(candidate, outcome, seconds, 0.0, timed=timed)
            self.picker.end(candidate)

    def news(self) -> list[Observation]:
        return self.tally.news(self.fleet)


@pytest.fixture
def client() -> Client:
    return Client()


def test_what_has_ended_is_told_once(client: Client) -> None:
    client.calls("ok", "failed", "ok", "overloaded", "ok")
    assert client.news() == [Observation("a", 4, 5, 2, 0, 0.1)]
    assert client.news() == []
    client.calls("ok", seconds=0.3)
    assert client.news() == [Observation("a", 4, 1, 0, 0, 0.3)]


def test_failures_in_a_row_are_counted_over_reports(client: Client) -> None:
    client.calls("ok", "failed", "overloaded")
    assert client.news() == [Observation("a", 4, 3, 2, 2, 0.1)]
    client.calls("failed")
    assert client.news() == [Observation("a", 4, 1, 1, 3)]
    client.calls("ok")
    assert client.news()[0].failing == 0


def test_a_call_that_its_caller_gave_up_says_nothing(client: Client) -> None:
    client.calls("cancelled")
    assert client.news() == []


def test_only_what_was_timed_has_a_latency(client: Client) -> None:
    client.calls("ok", "ok", seconds=60.0, timed=False)
    assert client.news() == [Observation("a", 4, 2, 0, 0)]
    client.calls("ok", seconds=60.0, timed=False)
    client.calls("ok", seconds=0.2)
    assert client.news() == [Observation("a", 4, 2, 0, 0, 0.2)]


def test_another_incarnation_begins_anew(client: Client) -> None:
    client.calls("failed", "failed")
    client.news()
    client.fleet.take(snapshot(instance("a", incarnation=9)), 0.0)
    client.calls("ok")
    assert client.news() == [Observation("a", 9, 1, 0, 0, 0.1)]


def test_of_one_that_is_gone_nothing_is_kept(client: Client) -> None:
    client.calls("ok")
    client.news()
    client.fleet.take(removed(instance("a", incarnation=4)), 0.0)
    assert client.news() == []
    assert client.tally._told == {}
