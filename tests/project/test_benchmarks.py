"""The benchmarks' harness, not their figures: the smallest size of one case, from processes to the written file."""

from pathlib import Path

import orjson
import pytest

from benchmarks.bench import EMBEDDED, KAFKA, Bench
from benchmarks.process import job
from benchmarks.table import Row, at_least, at_most, show, write


@pytest.mark.process
def test_a_case_runs_in_processes_of_its_own_and_its_rows_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.registry import http

    bench = Bench(tmp_path, runs=1, scale=0.001, engines=(EMBEDDED,))
    rows = list(http.run(bench))
    assert [(row.engine, row.figure) for row in rows][:3] == [
        (EMBEDDED, "p50"),
        (EMBEDDED, "p99"),
        (EMBEDDED, "per second"),
    ]
    assert all(row.median > 0 and row.floor for row in rows)
    write(tmp_path / "results.json", rows, scale=bench.scale)
    document = orjson.loads((tmp_path / "results.json").read_bytes())
    assert len(document["rows"]) == len(rows) == 6
    assert document["machine"]["cores"] >= 1
    show(rows)
    assert "64 in flight" in capsys.readouterr().out


@pytest.mark.process
def test_a_flip_reaches_a_watcher_in_another_process(tmp_path: Path) -> None:
    from benchmarks.registry import watch

    rows = list(watch.run_fanout(Bench(tmp_path, runs=1, scale=0.002, engines=(EMBEDDED,))))
    assert [row.figure for row in rows] == ["last watcher", "acknowledged p50", "bytes in all"]
    assert all(row.median > 0 for row in rows)


@pytest.mark.process
def test_values_are_put_and_got_through_a_data_node_beside_bare_grpc_and_a_raw_disk(tmp_path: Path) -> None:
    from benchmarks.shards import keyspace

    rows = list(keyspace.run(Bench(tmp_path, runs=1, scale=0.001)))
    assert [row.title[:3] for row in rows] == ["put", "get", "put", "get"]
    assert all(row.median > 0 and row.floor for row in rows)


@pytest.mark.process
def test_a_move_copies_what_its_driver_alone_copies(tmp_path: Path) -> None:
    from benchmarks.shards import copying

    rows = list(copying.run(Bench(tmp_path, runs=1, scale=0.001)))
    assert [row.figure for row in rows] == ["of the floor", "per second"]
    assert all(row.median > 0 and row.floor for row in rows)


@pytest.mark.process
def test_a_shard_moves_to_and_fro_under_writes_and_none_fails(tmp_path: Path) -> None:
    from benchmarks.shards import cutover

    p50, p99, errors = cutover.run(Bench(tmp_path, runs=1, scale=0.001))
    assert 0 < p50.median <= p99.median
    assert errors.median == 0


@pytest.mark.process
def test_sagas_go_through_when_their_participants_answer_at_once(tmp_path: Path) -> None:
    from benchmarks.shards import sagas

    rows = list(sagas.run(Bench(tmp_path, runs=1, scale=0.001, engines=(EMBEDDED,))))
    assert [row.figure for row in rows] == ["steps per second", "migrations per second", "wanted to recorded p99"]
    assert all(row.median > 0 and row.floor for row in rows)


@pytest.mark.process
def test_live_sagas_go_on_when_their_controller_was_killed(tmp_path: Path) -> None:
    from benchmarks.shards import live_sagas

    [row] = live_sagas.run(Bench(tmp_path, runs=1, scale=0.001, engines=(EMBEDDED,)))
    assert row.title.startswith("16 live sagas")
    assert row.median >= row.notes["tasks offered again s"] > 0


@pytest.mark.process
def test_a_group_whose_command_is_killed_is_led_by_another_member_beside_the_parts_of_that(tmp_path: Path) -> None:
    from benchmarks.groups import failover

    p50, p99, share = failover.run(Bench(tmp_path, runs=1, scale=0.001, engines=(EMBEDDED,)))
    assert 0 < p50.median <= p99.median
    assert p50.floor
    assert share.median == pytest.approx(p50.median / p50.floor)


@pytest.mark.process
def test_a_group_whose_primary_is_lost_or_stopped_waits_for_its_lease(tmp_path: Path) -> None:
    from benchmarks.groups import lost

    rows = list(lost.run(Bench(tmp_path, runs=1, scale=0.001, engines=(EMBEDDED,))))
    assert [row.title[:7] for row in rows] == ["SIGKILL", "SIGSTOP"]
    # The lease counts from the last renewal, which is at most a sixth of it old, and a moment more.
    assert all(row.notes["shortest s"] > 1.4 and row.floor for row in rows)


@pytest.mark.process
def test_a_group_is_switched_to_and_fro_and_nobody_leads_in_between(tmp_path: Path) -> None:
    from benchmarks.groups import switch

    p50, longest = switch.run(Bench(tmp_path, runs=1, scale=0.001, engines=(EMBEDDED,)))
    assert 0 < p50.median <= longest.median
    assert p50.floor


@pytest.mark.process
def test_groups_of_which_nobody_fails_do_not_fail_over_while_a_core_is_busy(tmp_path: Path) -> None:
    from benchmarks.groups import busy

    [row] = busy.run(Bench(tmp_path, runs=1, scale=0.005, engines=(EMBEDDED,)))
    assert row.median == 0
    assert row.notes["longest between two renewals of a primary ms"] > 0


@pytest.mark.postgres
@pytest.mark.process
def test_no_row_is_missing_when_the_primary_of_a_postgresql_group_is_killed(tmp_path: Path) -> None:
    from benchmarks.groups import postgres

    p50, longest, missing = postgres.run(Bench(tmp_path, runs=1, scale=0.001, engines=(EMBEDDED,)))
    assert 0 < p50.median <= longest.median
    assert p50.floor
    assert missing.median == 0


@pytest.mark.kafka
@pytest.mark.process
def test_a_group_is_led_again_when_its_controller_and_its_primary_are_lost_together(tmp_path: Path) -> None:
    from benchmarks.groups import controller_lost

    bench = Bench(tmp_path, runs=1, scale=0.001, engines=(KAFKA,))
    try:
        [row] = controller_lost.run(bench)
    finally:
        bench.close()
    # The new reign gives the lease its full length again, and more.
    assert row.median > 2


@pytest.mark.process
def test_members_of_groups_renew_in_lists_and_one_by_one_beside_plain_http(tmp_path: Path) -> None:
    from benchmarks.groups import renewals

    rows = list(renewals.run(Bench(tmp_path, runs=1, scale=0.05, engines=(EMBEDDED,))))
    assert [row.figure for row in rows] == ["controller % core", "answered p99"] * 2
    assert all(row.median > 0 and row.floor is not None for row in rows)
    assert rows[0].notes["requests/s"] < rows[2].notes["requests/s"]
    # As many as there are, at the pace of real ones.
    assert rows[2].notes["renewals/s"] > 0.5 * 50 * (3 + 2 * 2)


@pytest.mark.process
def test_picks_are_timed_with_few_instances_and_with_many(tmp_path: Path) -> None:
    from benchmarks.balance import pick

    rows = list(pick.run(Bench(tmp_path, runs=1, scale=0.001)))
    assert [row.figure for row in rows] == ["of 10", "of 1,000"] * 6
    assert all(row.median > 0 for row in rows)


@pytest.mark.process
def test_calls_are_timed_bare_and_balanced_in_turns_through_each_client(tmp_path: Path) -> None:
    from benchmarks.balance import clients

    rows = list(clients.run(Bench(tmp_path, runs=1, scale=0.01)))
    assert [row.figure for row in rows] == ["p50 of a call", "CPU of a call"] * 3
    # A quotient of like with like, in the same process: it can be no other order of magnitude.
    assert all(0.3 < row.median < 10 for row in rows)


@pytest.mark.process
def test_a_slow_instance_costs_more_in_turns_than_by_cost(tmp_path: Path) -> None:
    from benchmarks.balance import slow

    turns, cost, times = slow.run(Bench(tmp_path, runs=1, scale=0.1))
    assert (turns.engine, cost.engine) == ("round_robin", "least_cost")
    assert times.median == pytest.approx(cost.median / turns.median)
    # A slow answer takes 200 ms, and one in five is that slow; nothing has failed beside it.
    assert turns.median > 100
    assert turns.notes["errors %"] == cost.notes["errors %"] == 0


@pytest.mark.process
def test_an_instance_that_fails_is_seen_by_who_must_not_repeat_and_by_nobody_else(tmp_path: Path) -> None:
    from benchmarks.balance import fails

    turns, cost, repeated = fails.run(Bench(tmp_path, runs=1, scale=0.1))
    assert 0 < cost.median < turns.median <= 20
    assert repeated.median == 0


@pytest.mark.process
def test_at_an_overload_it_is_counted_what_is_answered(tmp_path: Path) -> None:
    from benchmarks.balance import overload

    rows = list(overload.run(Bench(tmp_path, runs=1, scale=0.2)))
    for critical, after in (rows[:2], rows[2:]):
        assert 30 < critical.median <= 100
        assert critical.notes["all %"] < 100, "there was more to do than could be done"
        assert after.median > 50


@pytest.mark.process
def test_the_last_call_of_an_unhealthy_instance_is_found_beside_a_watcher(tmp_path: Path) -> None:
    from benchmarks.balance import flip

    p50, p50_times, p99, _ = flip.run(Bench(tmp_path, runs=1, scale=0.01))
    assert 0 < p50.median <= p99.median
    assert p50.floor
    assert p50_times.median == pytest.approx(p50.median / p50.floor)


@pytest.mark.process
def test_calls_that_may_be_repeated_survive_the_kill_of_an_instance(tmp_path: Path) -> None:
    from benchmarks.balance import kill

    [row] = kill.run(Bench(tmp_path, runs=1, scale=0.01))
    assert row.median == 0
    assert row.notes["calls"] > 1_000


@pytest.mark.process
def test_a_proxy_stands_alone_in_the_path_of_the_calls(tmp_path: Path) -> None:
    from benchmarks.balance.load.caller import Calls
    from benchmarks.balance.stage import Kind, ours_and_theirs
    from benchmarks.rivals.proxies import BEST, TURNS, there

    # What has not been fetched yet is not fetched for a test.
    ways = there([*BEST, *TURNS], fetch=False)
    if not ways:
        pytest.skip("neither nginx nor HAProxy nor Envoy is here; make bench RIVALS=proxies fetches them")
    calls = Calls(((100.0, 0.3),), clients=2)
    found = ours_and_theirs(Bench(tmp_path), [Kind(0.001, 4)] * 2, calls, (), ways)
    assert {name: phases[0]["answered"] for name, phases in found.items()} == {way.name: {"normal": 30} for way in ways}


def test_the_median_is_judged_by_its_target() -> None:
    row = Row("c", "title", "any", "p50", "ms", [3.0, 1.0, 2.0], at_most(2.0), floor=0.5)
    assert (row.median, row.reached, row.ratio) == (2.0, True, 4.0)
    assert Row("c", "title", "any", "rate", "/s", [1.0], at_least(2.0)).reached is False


def test_rows_of_cases_that_did_not_run_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write(
        file,
        [Row("one", "title", "any", "p50", "ms", [1.0]), Row("two", "title", "any", "p50", "ms", [2.0])],
        scale=1.0,
    )
    write(file, [Row("two", "title", "any", "p50", "ms", [3.0])], scale=1.0)
    rows = orjson.loads(file.read_bytes())["rows"]
    assert [(row["case"], row["median"]) for row in rows] == [("one", 1.0), ("two", 3.0)]


def test_a_job_that_fails_raises() -> None:
    with pytest.raises(Exception, match="non-zero exit status"):
        job("benchmarks.load.http_load", "127.0.0.1", 1, 1)
