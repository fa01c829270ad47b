"""Who is silent, who is heard: a partition of heartbeats, told second by second."""

from hypothesis import given
from hypothesis import strategies as st

from domain.registry.instance import (
    InstanceCheckChanged,
    InstanceDeregistered,
    InstanceHealthChanged,
    InstanceHeartbeatsChanged,
    InstanceLeaseChanged,
)
from domain.telemetry.finding import Suspicion
from domain.telemetry.partition import LEFT_OVER_MAX
from domain.telemetry.partition_time import PartitionTime
from muster.wire.registry.check import TtlCheck
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from tests.domain.telemetry.listening import BEGAN_MS, Listening

LEASE = {"lease_seconds": 10.0}
TTL = {"checks": (TtlCheck(ttl_seconds=10.0),)}


def healthy(name="a", was="unknown"):
    return InstanceHealthChanged(instance=name, was=was, to="healthy", cause="", check="ttl", check_status="healthy")


def ill(name="a"):
    return InstanceHealthChanged(
        instance=name, was="healthy", to="unhealthy", cause="", check="ttl", check_status="unhealthy"
    )


def gone(name="a"):
    return InstanceDeregistered(instance=name, incarnation=0, cause="lease_expired", health="healthy")


def listening(**fields):
    return Listening().tick().registered("a", "b", **(fields or LEASE)).opened()


def test_who_beats_is_not_silent():
    assert listening().passes(60, "a", "b").silent == {}


def test_who_falls_silent_is_found_when_its_lease_is_over():
    told = listening().passes(5, "a", "b").passes(20, "b")
    assert told.silent == {"a": 15.0}
    assert told.found[0][1] == Suspicion("orders", "a", 0, BEGAN_MS + 5_000, silent=True)


def test_who_was_never_heard_is_found_too():
    assert listening().passes(11).silent == {"a": 10.0, "b": 10.0}


def test_a_silence_is_told_again_under_its_id_until_the_log_shows_it():
    told = listening().passes(45, "b")
    ids = {one.identity for _, one in told.found}
    assert [at for at, _ in told.found] == [10.0, 20.0, 30.0, 40.0]
    assert len(ids) == 1
    assert told.event(gone()).passes(30, "b").found == told.found[:4]


def test_a_silence_after_another_one_has_another_id():
    told = listening().passes(12, "b").passes(5, "a", "b").passes(12, "b")
    ids = [one.identity for _, one in told.found]
    assert len(ids) == len(set(ids)) == 2


def test_instances_that_come_and_go_are_not_kept_until_their_leases_would_have_been_over():
    told = listening().registered("lasting", lease_seconds=86_400.0)
    for number in range(3_000):
        told.registered(f"i{number}", lease_seconds=86_400.0).event(gone(f"i{number}"))
        # One that stays, and has its lease changed again and again, is listened for once.
        told.event(InstanceLeaseChanged(instance="lasting", lease_seconds=80_000.0 + number))
    assert len(told.partition._deadlines) <= 2 * 3 + LEFT_OVER_MAX + 1
    assert told.passes(11).silent == {"a": 10.0, "b": 10.0}
    assert told.jumps(1.0).partition.counts() == (3, 2)


def test_silence_is_judged_by_ticks_alone():
    told = listening().passes(9.5, "b")
    told.at = 10.9
    assert (
        told.beats("b").silent == {}
    )  # A beat that comes late may stand behind another one that was recorded before it.
    assert told.tick().silent == {"a": 10.9}


def test_a_beat_that_was_recorded_before_the_tick_counts_however_late_it_is_read():
    told = listening().passes(9.9, "b")
    told.at = 10.0
    assert told.beats("a").tick().silent == {}


def test_a_hole_in_the_topic_moves_every_deadline():
    told = listening().passes(5, "a", "b").jumps(30.0).passes(9.8)
    assert told.silent == {}
    assert told.passes(0.3).silent == {"a": 45.0, "b": 45.0}


def test_a_pause_that_is_no_hole_counts():
    told = listening()
    for _ in range(7):
        told.jumps(1.5)
    assert told.silent == {"a": 10.5, "b": 10.5}


def test_instants_that_run_backwards_let_no_time_pass():
    told = listening().passes(5, "a", "b")
    told.at -= 3.0
    assert told.passes(8, "a", "b").silent == {}
    assert told.passes(9.8, "b").silent == {}


def test_the_same_time_does_not_pass_twice():
    time = PartitionTime()
    told = [time.advance(BEGAN_MS + millis) for millis in (0, 1_000, 500, 900, 1_000, 1_200)]
    assert told == [0.0, 1.0, 1.0, 1.0, 1.0, 1.2]


def test_a_ttl_check_is_over_and_heard_again():
    told = listening(**TTL).passes(1, "a")
    assert told.found == [(1.0, Suspicion("orders", "a", 0, BEGAN_MS + 1_000, silent=False))]
    told.event(healthy()).passes(11, "b")
    assert told.silent == {"a": 11.0}
    assert [one.check for _, one in told.found if one.silent] == ["ttl"]
    told.event(ill())
    before = [one for _, one in told.found if one.instance == "a"]
    told.passes(30)
    assert [one for _, one in told.found if one.instance == "a"] == before, "what the log shows is not told again"
    told.beats("a")
    assert told.found[-1][1] == Suspicion("orders", "a", 0, told.now_ms, silent=False)


def test_presence_is_told_again_until_the_log_shows_it():
    told = listening(**TTL).passes(4.5, "a")
    assert [at for at, one in told.found if not one.silent] == [1.0, 3.0]
    count = len(told.event(healthy()).found)
    assert len(told.passes(5, "a").found) == count


def test_who_is_well_by_a_report_has_its_full_ttl_again_and_another_silence():
    told = listening(**TTL).event(healthy()).passes(11).event(ill()).event(healthy(was="unhealthy"))
    first = told.found[0][1].identity
    told.passes(9.8)
    assert [one for _, one in told.found if one.instance == "a"][1:] == []
    told.passes(0.4)
    assert told.found[-1][1].instance == "a"
    assert told.found[-1][1].identity != first


def test_a_beat_of_another_incarnation_is_none():
    told = listening().passes(8, "a", "b").passes(4).beats("a", incarnation=1).passes(8)
    assert told.silent == {"a": 18.0, "b": 18.0}


def test_a_beat_of_an_instance_that_keeps_its_lease_with_the_writer_is_none():
    told = Listening().tick().registered("a", lease_seconds=10.0, heartbeats="direct").opened().beats("a")
    assert told.passes(30).found == []


def test_who_comes_over_from_direct_heartbeats_has_its_full_lease():
    told = Listening().tick().registered("a", lease_seconds=10.0, heartbeats="direct").opened().passes(20)
    told.event(InstanceHeartbeatsChanged(instance="a", heartbeats="topic")).passes(11)
    assert told.silent == {"a": 30.0}


def test_who_goes_back_to_direct_heartbeats_is_watched_no_more():
    told = listening().passes(5, "a").event(InstanceHeartbeatsChanged(instance="a", heartbeats="direct")).passes(30)
    assert set(told.silent) == {"b"}


def test_a_lease_that_is_changed_counts_from_the_last_beat():
    told = listening().passes(5, "a", "b").event(InstanceLeaseChanged(instance="a", lease_seconds=20.0)).passes(25)
    assert told.silent == {"b": 15.0, "a": 25.0}


def test_a_new_incarnation_has_its_full_lease():
    told = listening().passes(11).event(gone()).registered("a", incarnation=3, **LEASE).passes(9.8)
    assert [one.incarnation for _, one in told.found if one.instance == "a"] == [0]
    assert [one.incarnation for _, one in told.passes(0.3).found if one.instance == "a"] == [0, 3]


def test_of_two_ttl_checks_each_is_over_in_its_time():
    checks = (TtlCheck(ttl_seconds=10.0), TtlCheck(ttl_seconds=20.0, name="slow"))
    told = Listening().tick().registered("a", checks=checks, lease_seconds=30.0).opened().beats("a")
    told.event(healthy()).event(InstanceCheckChanged(instance="a", check="slow", was="unknown", to="healthy"))
    first = [one.check for at, one in told.passes(30.1).found if one.silent and at in (10.0, 20.0, 30.0)]
    assert first[0] == "ttl"
    assert first.index("slow") < first.index(None)


class TestTakeover:
    """What a worker finds that has just been given the partition, and reads again what was before."""

    def test_nothing_is_told_before_all_is_read(self):
        told = Listening().tick().registered("a", "b", **LEASE).passes(20, "b")
        assert told.found == []

    def test_nobody_is_told_to_be_there_before_all_is_read(self):
        told = Listening().tick().registered("a", **TTL).passes(3, "a")
        assert told.found == []
        assert [one.instance for _, one in told.opened().passes(2, "a").found] == ["a"]

    def test_who_fell_silent_in_what_is_read_again_is_found_at_once(self):
        told = Listening().tick().registered("a", "b", **LEASE).beats("a").passes(12, "b").opened().passes(0.1, "b")
        assert told.silent == {"a": 12.1}

    def test_who_was_not_heard_in_it_is_listened_for_from_now_on(self):
        told = Listening().tick().registered("a", "b", **LEASE).passes(15, "b").opened().passes(11, "b")
        assert told.silent == {"a": 25.0}

    def test_two_workers_that_read_the_same_say_the_same(self):
        def worker(began: float) -> set[str]:
            told = Listening().tick().registered("a", "b", **LEASE).passes(3, "a", "b").passes(began - 3, "b").opened()
            return {one.identity for _, one in told.passes(30 - began, "b").found}

        assert worker(5) == worker(9)


class TestLoads:
    def test_it_is_what_the_instances_said_in_the_last_30_s(self):
        told = listening()
        told.at = 1.0
        partition = told.partition
        partition.beats(
            told.now_ms, Heartbeats("h", "orders", [Beat("a", 0, 4, 10, 1, 0.5), Beat("b", 0, 6, 30, 0, 0.7)])
        )
        (load,) = partition.loads()
        assert (load.instances, load.heard, load.in_flight, load.per_second) == (2, 2, 10.0, 40.0)
        assert (load.failures_per_second, load.utilisation) == (1.0, 0.6)
        told.passes(40)
        assert list(partition.loads()) == []

    def test_what_nobody_says_is_unknown(self):
        (load,) = listening().beats("a").partition.loads()
        assert (load.heard, load.in_flight, load.per_second, load.utilisation) == (1, None, None, None)


steps = st.lists(
    st.tuples(st.sampled_from(["beat a", "beat b", "tick", "hole"]), st.floats(0.05, 1.4)), min_size=1, max_size=120
)


@given(steps)
def test_nobody_is_silent_before_its_lease_and_everybody_soon_after(history):
    """By the seconds of the partition, however beats, ticks and holes follow one another."""
    told = listening()
    elapsed, heard = 0.0, {"a": 0.0, "b": 0.0}
    first: dict[str, float] = {}
    for what, seconds in history:
        seconds = round(seconds, 3)
        if what == "hole":
            told.at += 1.5 + seconds
            told.tick()
        else:
            told.at += seconds
            elapsed += seconds
            if what == "tick":
                told.tick()
            else:
                told.beats(what[-1])
                heard[what[-1]] = elapsed
                first.pop(what[-1], None)
        new, told.found = told.found, []
        for _, one in new:
            assert elapsed - heard[one.instance] >= 10.0 - 1e-3
            first[one.instance] = elapsed
        if what in ("tick", "hole"):
            for name, last in heard.items():
                assert elapsed - last < 10.0 + 1e-3 or name in first, "a tick behind the lease finds the silence"
