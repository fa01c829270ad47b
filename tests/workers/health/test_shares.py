"""Who may run now, as a table: no service and no target takes what others need."""

from domain.registry.instance import Instance, evolve
from muster.wire.registry.check import Health, HttpCheck, TcpCheck
from tests.sample import recorded, registered
from workers.health.job import Job
from workers.health.shares import Queue, Shares


def job(service: str, host: str, *, quick: bool = False) -> Job:
    check = TcpCheck(host=host, port=80)
    found = evolve(None, recorded(registered("a", checks=(check,))))
    assert isinstance(found, Instance)
    made = Job(f"service/{service}", found, check)
    made.quick = quick
    return made


def filled(shares: Shares, *asked: Job) -> int:
    """How many of the jobs were let in, one after another."""
    return sum(1 for one in asked if shares.admits(one) and shares.take(one) is None)


def test_one_service_alone_gets_half_and_two_get_a_third_each() -> None:
    shares = Shares(120)
    assert filled(shares, *(job("a", f"a{n}", quick=True) for n in range(200))) == 60
    assert filled(shares, *(job("b", f"b{n}", quick=True) for n in range(200))) == 30
    one, other = Shares(120), [job(name, f"{name}{n}", quick=True) for n in range(200) for name in ("a", "b")]
    assert filled(one, *other) == 80


def test_one_target_gets_half_whoever_asks_it() -> None:
    assert filled(Shares(120), *(job(f"s{n}", "tarpit", quick=True) for n in range(200))) == 60


def test_a_quarter_is_kept_for_those_whose_last_run_was_quick() -> None:
    shares = Shares(120)
    assert filled(shares, *(job(f"s{n}", f"h{n}") for n in range(500))) == 90
    assert filled(shares, *(job("web", f"w{n}", quick=True) for n in range(500))) == 15


def test_slots_that_are_given_back_are_there_for_others() -> None:
    shares, slow = Shares(8), job("a", "h")
    shares.take(slow)
    slow.quick = True
    shares.give_back(slow, quick=False)
    assert (shares.taken, shares.room(quick=False), shares.room(quick=True)) == (0, 6, 8)


def test_those_that_wait_take_turns_by_service_and_by_target() -> None:
    queue, shares = Queue(), Shares(64)
    waiting = [job("a", "a1"), job("a", "a1"), job("a", "a2"), job("b", "b1"), job("b", "b1")]
    for one in waiting:
        queue.put(one)
    order = []
    while (found := queue.pop(shares)) is not None:
        order.append(found.target)
    assert order == ["a1:80", "b1:80", "a2:80", "b1:80", "a1:80"]
    assert len(queue) == 0


def test_a_target_that_has_its_share_does_not_hold_up_its_service_or_others() -> None:
    queue, shares = Queue(), Shares(16)
    assert filled(shares, *(job(f"s{n}", "tarpit") for n in range(99))) == 6
    for one in (job("a", "tarpit"), job("a", "other")):
        queue.put(one)
    found = queue.pop(shares)
    assert found is not None
    assert found.target == "other:80"
    shares.take(found)
    assert queue.pop(shares) is None


def test_a_job_that_is_dropped_waits_no_more() -> None:
    queue, one, other = Queue(), job("a", "h"), job("a", "h")
    queue.put(one)
    queue.drop(other)
    assert len(queue) == 1
    queue.drop(one)
    queue.drop(one)
    assert (len(queue), queue.pop(Shares(8))) == (0, None)


def test_after_a_restart_those_that_the_log_knows_as_healthy_count_as_quick() -> None:
    check = HttpCheck(url="http://[fd00::7]:8080/health")
    found = evolve(None, recorded(registered("a", checks=(check,))))
    assert found is not None
    known: list[tuple[Health, bool]] = [("healthy", True), ("unhealthy", False), ("unknown", False)]
    for status, quick in known:
        found.checks["http"].status = status
        made = Job("service/a", found, check)
        assert (made.quick, made.target) == (quick, "[fd00::7]:8080")
