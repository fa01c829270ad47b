"""The ids of tasks: what `str` writes, `parse_task_id` reads, and nothing else."""

import pytest

from sagas.tasks import CleanupTask, OpenTask, StepTask, TaskId, parse_task_id

MIGRATION = "keyspace/users/migration/17"


@pytest.mark.parametrize(
    ("id_", "text", "stream"),
    [
        (StepTask(MIGRATION, "copy", 2), f"{MIGRATION}/copy/2", MIGRATION),
        (OpenTask("keyspace/users", 0, 1), "keyspace/users/shard/0/open/1", "keyspace/users"),
        (CleanupTask(MIGRATION, "n1"), f"{MIGRATION}/cleanup/n1", "keyspace/users"),
        (CleanupTask(MIGRATION, "1"), f"{MIGRATION}/cleanup/1", "keyspace/users"),
    ],
)
def test_an_id_is_written_and_read(id_: TaskId, text: str, stream: str) -> None:
    assert str(id_) == text
    assert parse_task_id(text) == id_
    assert id_.stream == stream


@pytest.mark.parametrize(
    "text",
    [
        "",
        "copy/1",
        "service/orders/copy/1",
        f"{MIGRATION}/copy/0",
        f"{MIGRATION}/copy/01",
        f"{MIGRATION}/cleanup/",
        "keyspace/users/shard/x/open/1",
        "keyspace/users/shard/0/open/1\n",
        "keyspace/users/migration/0/copy/1",
    ],
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert parse_task_id(text) is None
