"""How a migration looks to a person."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from muster.cli.shards.story import line, overview, progress, size, state, story, took
from muster.wire.shards.answers import Migration, MigrationStep, MoveProgress, MoveWeights

AT = datetime(2026, 1, 31, 3, 0, tzinfo=UTC)


def migration(**fields: Any) -> Migration:
    about = {"id": "keyspace/users/migration/17", "keyspace": "users", "shard": 3, "source": "n1", "target": "n2"}
    stands = {"phase": "forward", "standing": "running", "paused": False, "step": "copy", "attempt": 1}
    return Migration(**{**about, **stands, "started_at": AT, "seconds": 12.0, "actor": "ops", **fields})


def drawn(picture: Any) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(picture)
    return [" ".join(told.split()) for told in out.getvalue().splitlines() if told.strip()]


COPYING = MoveProgress(
    bytes=12_000_000, bytes_total=40_000_000, records=1_234, bytes_per_second=5_100_000.0, seconds_left=5.5
)


def test_a_story_says_what_it_is_where_it_stands_what_it_waits_for_and_what_may_be_done():
    steps = (
        MigrationStep(name="plan", attempts=1, began_at=AT, ended_at=AT, seconds=0.0, outcome="done"),
        MigrationStep(
            name="copy", attempts=2, began_at=AT, seconds=11.5, outcome="running", error="ReadFailed: n1 is away"
        ),
    )
    found = migration(
        attempt=2, steps=steps, waits_for="n2 to copy", allowed=("pause", "abort"), progress=COPYING, reason="full"
    )
    assert drawn(story(found)) == [
        "move shard 3 of users, from n1 to n2 (keyspace/users/migration/17)",
        "state running at copy, attempt 2, 12s in all",
        "begun 2026-01-31 03:00:00.000Z by ops: full",
        "waits for n2 to copy",
        "progress 12.0 MB of 40.0 MB (30 %), 1,234 records, 5.1 MB/s, about 5.5s left",
        "allowed pause, abort",
        "STEP BEGAN TOOK ATTEMPTS OUTCOME ERROR",
        "plan 03:00:00.000Z 0.000s 1 done",
        "copy 03:00:00.000Z 12s 2 running ReadFailed: n1 is away",
    ]


def test_a_story_says_what_was_weighed_when_its_target_was_chosen():
    weights = MoveWeights(shard=41.25, source=310.0, target=12.5)
    weighed = "weighed shard 41.25; n1 had 310, n2 12.5 (requests per second, and 1 for each shard)"
    assert weighed in drawn(story(migration(weighed=weights)))
    assert not any("weighed" in line for line in drawn(story(migration())))


def test_a_story_of_a_blocked_compensation_says_why_it_turned_back_and_what_it_stumbled_over():
    steps = (MigrationStep(name="discard", attempts=5, began_at=AT, outcome="failed", undoes="prepare"),)
    found = migration(
        phase="compensating",
        standing="blocked",
        step="discard",
        cause="aborted",
        error="WriteFailed: disk full",
        stalled="discard takes longer than 60 s",
        steps=steps,
        allowed=("retry", "skip"),
    )
    told = drawn(story(found))
    assert "state blocked (compensating) at discard, attempt 1, 12s in all" in told
    assert "turned back aborted" in told
    assert "last error WriteFailed: disk full" in told
    assert "stalled discard takes longer than 60 s" in told
    assert "discard (undoes prepare) 03:00:00.000Z 5 failed" in told


def test_a_list_has_a_line_for_each():
    rows = drawn(overview([migration(progress=COPYING), migration(step=None, phase="completed", standing="ended")]))
    assert rows[0].startswith("MIGRATION SHARD FROM TO STATE")
    assert rows[1].startswith("users/17 users/3 n1 n2 running copy")
    assert "30 %" in rows[1]
    assert rows[2].startswith("users/17 users/3 n1 n2 completed")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"waits_for": "n2 to copy"}, "users/17: running, at copy, waits for n2 to copy"),
        (
            {"attempt": 2, "progress": MoveProgress(bytes=5, lag_records=3)},
            "users/17: running, at copy, attempt 2, 5 B, 3 changes behind",
        ),
        ({"paused": True}, "users/17: paused, at copy"),
        ({"step": None, "phase": "completed", "standing": "ended"}, "users/17: completed, after 12s"),
        (
            {"step": None, "phase": "compensated", "standing": "ended", "cause": "aborted"},
            "users/17: compensated, after 12s: aborted",
        ),
    ],
)
def test_one_line_says_where_it_stands(fields: dict[str, Any], told: str):
    assert line(migration(**fields)) == told


def test_what_turns_back_is_not_said_to_run():
    assert state(migration(phase="compensating")) == "compensating"
    assert state(migration(phase="compensating", standing="blocked")) == "blocked"


def test_progress_of_nothing_is_nothing():
    assert progress(MoveProgress()) == ""


def test_sizes_and_lengths_are_short():
    assert [size(count) for count in (0, 999, 1_500, 20_000_000, 3e12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "20.0 MB",
        "3.0 TB",
    ]
    assert [took(seconds) for seconds in (None, 0.0123, 3.44, 60, 125, 11_400)] == [
        "",
        "0.012s",
        "3.4s",
        "60s",
        "2m05s",
        "3h10m",
    ]
