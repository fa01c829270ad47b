"""Durations that no clock would ever reach are refused where they are given, with the field."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import muster
from muster.agent.lease import Lease
from muster.agent.membership import NodeMembership
from muster.client.transport import Transport
from muster.kafka_commands import KafkaCommands
from muster.wire import DEFAULT_URL

NEVER: list[Any] = [math.nan, math.inf, -1.0, True, "10", None]


def _node(lease_seconds: float) -> NodeMembership:
    transport = Transport(DEFAULT_URL, actor=None, timeout_seconds=10.0)
    return NodeMembership(transport, "n1", Lease(lambda _: None), lease_seconds, {})


@pytest.mark.parametrize("never", NEVER)
@pytest.mark.parametrize(
    ("field", "take"),
    [
        ("timeout_seconds", lambda seconds: muster.Client(timeout_seconds=seconds)),
        ("timeout_seconds", lambda seconds: muster.Group("db", timeout_seconds=seconds)),
        ("hold_seconds", lambda seconds: muster.Group("db", hold_seconds=seconds)),
        ("timeout_seconds", lambda seconds: muster.Keyspace("users", timeout_seconds=seconds)),
        ("hold_seconds", lambda seconds: muster.Keyspace("users", hold_seconds=seconds)),
        ("attempt_seconds", lambda seconds: muster.Keyspace("users", attempt_seconds=seconds)),
        ("timeout_seconds", lambda seconds: muster.Balancer("users", timeout_seconds=seconds)),
        ("failure_seconds", lambda seconds: muster.Balancer("users", failure_seconds=seconds)),
        ("timeout_seconds", lambda seconds: KafkaCommands("127.0.0.1:1", timeout_seconds=seconds)),
        ("lease_seconds", _node),
    ],
)
def test_a_duration_that_never_ends_is_refused(field: str, take: Callable[[Any], object], never: Any) -> None:
    with pytest.raises(muster.InvalidCommand, match=f"{field}: must be a number of seconds") as refused:
        take(never)
    assert refused.value.context["field"] == field


def test_a_guard_does_not_wait_for_ever_for_its_lock(tmp_path: Path) -> None:
    with pytest.raises(muster.InvalidCommand, match="wait_seconds: must be a number of seconds, 0 or more"):
        muster.Guard(tmp_path / "guard", wait_seconds=math.nan)


async def test_the_time_of_one_call_is_judged_like_that_of_the_client() -> None:
    async with muster.Client() as client:
        with pytest.raises(muster.InvalidCommand, match="timeout_seconds"):
            await client.heartbeat("users", "users-1", timeout_seconds=math.nan)
        with pytest.raises(muster.InvalidCommand, match="timeout_seconds"):
            await client.heartbeats([], timeout_seconds=math.nan)
