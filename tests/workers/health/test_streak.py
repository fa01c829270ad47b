"""How results in a row become a status."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from muster.wire.registry.check import Health
from workers.health.streak import Streak, after


def then(status: Health, results: str, *, healthy_after: int = 1, unhealthy_after: int = 1) -> list[Health]:
    """The status after each result (`+` success, `-` failure), from a checker that starts with `status`."""

    def step(streak: Streak, result: str) -> Streak:
        return after(streak, success=result == "+", healthy_after=healthy_after, unhealthy_after=unhealthy_after)

    return [streak.status for streak in accumulate(results, step, initial=Streak(status))][1:]


def test_the_first_result_decides_an_unknown_check_whatever_the_thresholds():
    assert then("unknown", "+", healthy_after=5) == ["healthy"]
    assert then("unknown", "-", unhealthy_after=5) == ["unhealthy"]


def test_failures_in_a_row_make_it_unhealthy():
    assert then("healthy", "---", unhealthy_after=3) == ["healthy", "healthy", "unhealthy"]


def test_a_success_in_between_ends_the_run_of_failures():
    assert then("healthy", "--+--", unhealthy_after=3) == ["healthy"] * 5


def test_successes_in_a_row_make_it_healthy_again():
    assert then("unhealthy", "+-++", healthy_after=2) == ["unhealthy", "unhealthy", "unhealthy", "healthy"]


def test_a_flip_starts_counting_anew():
    assert then("healthy", "--+-", healthy_after=2, unhealthy_after=2) == [
        "healthy",
        "unhealthy",
        "unhealthy",
        "unhealthy",
    ]


def test_a_new_checker_that_knows_the_status_from_the_log_flips_no_sooner_than_an_old_one():
    assert then("healthy", "-", unhealthy_after=2) == ["healthy"]
    assert then("unhealthy", "+", healthy_after=2) == ["unhealthy"]


thresholds = st.integers(1, 5)


@given(st.sampled_from(["unknown", "healthy", "unhealthy"]), st.text("+-", min_size=1), thresholds, thresholds)
def test_a_status_changes_exactly_when_the_newest_results_are_a_long_enough_run_against_it(
    known: Health, results: str, healthy_after: int, unhealthy_after: int
):
    statuses = [known, *then(known, results, healthy_after=healthy_after, unhealthy_after=unhealthy_after)]
    since = 0  # Where the results begin that count towards the next change.
    for place in range(1, len(statuses)):
        before, now = statuses[place - 1], statuses[place]
        needed, sign = {"unknown": (1, ""), "healthy": (unhealthy_after, "-"), "unhealthy": (healthy_after, "+")}[
            before
        ]
        newest = results[max(since, place - needed) : place]
        against = before == "unknown" or newest == sign * needed
        assert (now != before) == against
        if now != before:
            assert now == ("healthy" if results[place - 1] == "+" else "unhealthy")
            since = place
