"""What clients say that they saw: added up for people, counted by hosts where it is weighed, bounded whatever they send."""

from dataclasses import dataclass, field

import pytest

from domain.telemetry import observed, seen_calls
from domain.telemetry.observed import ObservedCalls
from domain.telemetry.seen_calls import SeenCalls, instance_rows
from muster.wire.telemetry.loads import ClientsWord
from muster.wire.telemetry.observations import Observation, Observations


@dataclass
class Clients:
    """Observers that report as time passes; instances `a` and `b` are there, in incarnation 4."""

    calls: ObservedCalls = field(default_factory=ObservedCalls)
    now: float = 0.0

    def say(self, observer: str, host: str, *seen: Observation, seconds: float = 5.0, service: str = "users") -> int:
        message = Observations(observer, service, seconds, list(seen), host)
        return self.calls.take(message, self.now, {"a": 4, "b": 4}.get)

    def passes(self, seconds: float) -> None:
        self.now += seconds

    def word(self, instance: str = "a", since: float = 0.0, incarnation: int = 4) -> tuple[int, int, int]:
        """How many hosts call it, see it fail, see it answer."""
        told = self.calls.word("users", instance, incarnation, since, self.now)
        assert told == ClientsWord(
            instance=instance,
            incarnation=incarnation,
            clients=told.clients,
            failing=told.failing,
            answering=told.answering,
        )
        return told.clients, told.failing, told.answering


@pytest.fixture
def clients() -> Clients:
    return Clients()


def well(instance: str = "a", attempts: int = 10, failures: int = 0, latency: float | None = 0.02) -> Observation:
    return Observation(instance, 4, attempts, failures, 0, latency)


def ill(instance: str = "a", attempts: int = 10, failing: int = 10) -> Observation:
    return Observation(instance, 4, attempts, min(attempts, failing), failing)


class TestLoads:
    def test_what_all_have_seen_is_added_up(self, clients):
        clients.say("w1", "h1", well(attempts=50, failures=5, latency=0.01), well("b", 50, latency=0.03))
        clients.say("w2", "h2", well(attempts=100, latency=0.02), seconds=10.0)
        seen = clients.calls.calls("users", clients.now)
        assert (seen.observers, seen.per_second, seen.failed_per_second) == (2, 30.0, 1.0)
        # By answers a second: 9 at 10 ms, 10 at 30 ms, 10 at 20 ms.
        assert seen.latency_seconds == pytest.approx((9 * 0.01 + 10 * 0.03 + 10 * 0.02) / 29)

    def test_the_last_report_of_each_counts(self, clients):
        clients.say("w1", "h1", well(attempts=50), well("b", 50))
        clients.passes(5)
        clients.say("w1", "h1", well(attempts=10))
        assert clients.calls.calls("users", clients.now).per_second == 2.0

    def test_who_has_not_reported_for_ten_seconds_sees_nothing_now(self, clients):
        clients.say("w1", "h1", well())
        clients.passes(10.5)
        assert clients.calls.calls("users", clients.now) is None

    def test_nothing_is_taken_about_who_is_not_there(self, clients):
        assert clients.say("w1", "h1", well("x"), Observation("a", 3, 5, 0, 0)) == 0
        assert clients.calls.calls("users", clients.now) is None
        assert clients.say("w1", "h1", well("x"), well("b")) == 1


class TestInstances:
    def test_each_is_told_as_all_have_seen_it_by_its_incarnation(self, clients):
        clients.say("w1", "h1", well(attempts=50, failures=5, latency=0.01), well("b", 50, latency=0.03))
        clients.say("w2", "h2", well(attempts=100, latency=0.02), seconds=10.0)
        seen = clients.calls.instances("users", clients.now)
        assert seen.keys() == {("a", 4), ("b", 4)}
        a, b = seen["a", 4], seen["b", 4]
        assert (a.observers, a.per_second, a.failed_per_second, a.failure_share) == (2, 20.0, 1.0, 0.05)
        # By answers a second: 9 at 10 ms, 10 at 20 ms.
        assert a.latency_seconds == pytest.approx((9 * 0.01 + 10 * 0.02) / 19)
        assert (b.observers, b.per_second, b.failure_share, b.latency_seconds) == (1, 10.0, 0.0, pytest.approx(0.03))

    def test_who_was_not_called_since_the_report_before_is_not_told(self, clients):
        clients.say("w1", "h1", well(), well("b"))
        clients.passes(5)
        clients.say("w1", "h1", well("b"))
        assert clients.calls.instances("users", clients.now).keys() == {("b", 4)}
        clients.passes(10.5)
        assert clients.calls.instances("users", clients.now) == {}

    def test_those_that_fail_most_come_first_then_the_slowest_and_others_are_left_out(self, monkeypatch):
        monkeypatch.setattr(seen_calls, "seen_max", 4)
        slow, quick, untimed, ill, worse, idle = (
            SeenCalls(1, 10.0, 0.0, 0.5),
            SeenCalls(1, 10.0, 0.0, 0.01),
            SeenCalls(1, 10.0, 0.0, None),
            SeenCalls(1, 1000.0, 10.0, 0.01),
            SeenCalls(1, 10.0, 1.0, 0.01),
            SeenCalls(1, 0.0, 0.0, None),
        )
        told = {"slow": slow, "quick": quick, "untimed": untimed, "ill": ill, "worse": worse, "idle": idle}
        rows = instance_rows(
            {(name, 4): calls for name, calls in told.items()}, lambda *key: {("ill", 4): 7.0}.get(key)
        )
        assert [row.instance for row in rows] == ["worse", "ill", "slow", "quick"]
        assert [row.in_flight for row in rows] == [None, 7.0, None, None]
        assert (rows[0].failure_share, rows[1].failure_share, rows[2].latency_seconds) == (0.1, 0.01, 0.5)


class TestWords:
    def test_hosts_are_counted_and_not_observers(self, clients):
        for number in range(20):
            clients.say(f"w{number}", "h1", ill())
        assert clients.word() == (1, 1, 0)
        clients.say("other", "h2", ill())
        assert clients.word() == (2, 2, 0)

    def test_an_observer_that_moves_is_on_one_host_at_a_time(self, clients):
        for number in range(9):
            clients.say("w1", f"h{number}", ill())
        assert clients.word() == (1, 1, 0)
        clients.say("w2", "h0", ill())
        assert clients.word() == (2, 2, 0)

    def test_where_one_of_a_host_is_answered_the_instance_answers(self, clients):
        clients.say("w1", "h1", ill())
        clients.say("w2", "h1", well())
        assert clients.word() == (1, 0, 1)

    @pytest.mark.parametrize(
        ("attempts", "failing", "said"),
        [(10, 0, (1, 0, 1)), (10, 2, (1, 0, 0)), (10, 3, (1, 1, 0)), (2, 2, (1, 1, 0)), (2, 1, (1, 0, 0))],
    )
    def test_three_failures_in_a_row_are_a_failing_instance(self, clients, attempts, failing, said):
        clients.say("w1", "h1", ill(attempts=attempts, failing=failing))
        assert clients.word() == said

    def test_what_was_said_before_the_doubt_tells_only_who_calls_it(self, clients):
        clients.say("w1", "h1", well())
        clients.say("w2", "h2", ill())
        clients.passes(3)
        assert clients.word(since=2.0) == (2, 0, 0)
        clients.say("w1", "h1", ill())
        assert clients.word(since=2.0) == (2, 1, 0)

    def test_what_was_said_ten_seconds_ago_is_nothing(self, clients):
        clients.say("w1", "h1", ill())
        clients.passes(10.5)
        assert clients.word() == (0, 0, 0)

    def test_a_word_is_about_its_incarnation(self, clients):
        clients.say("w1", "h1", ill())
        assert clients.word(incarnation=7) == (0, 0, 0)


class TestBounds:
    def test_one_host_cannot_fill_the_room_of_the_others(self, clients):
        for number in range(observed.observers_host_max + 5):
            assert clients.say(f"w{number}", "h1", well()) == (number < observed.observers_host_max)
        assert clients.say("w0", "h1", well()) == 1
        assert clients.say("other", "h2", well()) == 1

    def test_observers_of_a_service_are_bounded(self, clients, monkeypatch):
        monkeypatch.setattr(observed, "observers_service_max", 3)
        assert [clients.say(f"w{number}", f"h{number}", well()) for number in range(5)] == [1, 1, 1, 0, 0]
        assert clients.say("w9", "h9", well(), service="orders") == 1

    def test_words_in_all_are_bounded(self, clients, monkeypatch):
        monkeypatch.setattr(observed, "words_max", 3)
        assert clients.say("w1", "h1", well(), well("b")) == 2
        assert clients.say("w2", "h2", well(), well("b")) == 1
        assert clients.say("w1", "h1", well(), well("b")) == 2

    def test_what_is_old_makes_room(self, clients, monkeypatch):
        monkeypatch.setattr(observed, "words_max", 2)
        clients.say("w1", "h1", well(), well("b"))
        clients.passes(observed.kept_seconds_max + 1)
        assert clients.say("w2", "h2", well(), well("b")) == 2
        assert list(clients.calls.services()) == ["users"]
        clients.passes(observed.kept_seconds_max + 1)
        clients.say("w2", "h2", well("x"))
        assert list(clients.calls.services()) == []
