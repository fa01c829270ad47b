"""What streams are called, and what they are called after."""

import pytest

from muster.wire.stream import name_of, root_of


@pytest.mark.parametrize(
    ("stream", "root", "name"),
    [
        ("service/orders", "service/orders", "orders"),
        ("keyspace/users", "keyspace/users", "users"),
        ("keyspace/users/migration/17", "keyspace/users", "users"),
        ("cluster", "cluster", ""),
        ("cluster/upgrade/1", "cluster", ""),
    ],
)
def test_a_stream_belongs_to_its_root_and_has_the_name_of_it(stream: str, root: str, name: str) -> None:
    assert (root_of(stream), name_of(stream)) == (root, name)
