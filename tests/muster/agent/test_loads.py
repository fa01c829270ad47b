"""A participant tells what its shards have to do, and serves on whatever becomes of that."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from muster.agent import loads
from muster.wire.shards.driver import ShardId
from muster.wire.telemetry.shard_loads import ShardLoadReport
from tests.muster.agent.node_control import node_control
from tests.muster.agent.test_agent import SHARD, Participant, running, store_with, taking_part, until


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "tell_seconds", 0.02)


@asynccontextmanager
async def telling(state: str = "serving", **options: Any) -> AsyncIterator[Participant]:
    """A participant that has the shard, and serves."""
    async with node_control() as control:
        control.put(0, "n1", 1)
        node = Participant(control, await store_with(state, 1), **options)
        async with running(node):
            await until(lambda: node.serves)
            yield node


async def test_a_store_says_what_each_shard_that_serves_has_to_do() -> None:
    asked = list[ShardId]()

    def load(shard: ShardId) -> ShardLoadReport:
        asked.append(shard)
        return ShardLoadReport(12.5, 3, 4_096)

    async with telling(load=load) as node:
        await until(lambda: node.control.loads)
    assert node.control.loads[0] == {"keyspaces": {"users": [[0, 12.5, 3.0, 4_096]]}, "incarnation": 1}
    assert set(asked) == {SHARD}


async def test_a_node_without_shards_says_so() -> None:
    async with taking_part(load=lambda shard: (1.0, 1.0, 1)) as node:
        await until(lambda: node.control.loads)
    assert node.control.loads[0]["keyspaces"] == {}


async def test_a_copy_that_does_not_serve_is_not_told() -> None:
    async with telling(load=lambda shard: (1.0, 1.0, 1)) as node:
        node.disk[SHARD].state = "fenced"
        before = len(node.control.loads)
        await until(lambda: len(node.control.loads) >= before + 2)
    assert node.control.loads[-1]["keyspaces"] == {}


async def test_a_store_that_says_nothing_is_not_asked() -> None:
    async with telling() as node:
        await until(lambda: node.control.asked.count("renew 1") >= 2)
    assert node.control.loads == []


@pytest.mark.parametrize("wrong", [(-1.0,), ("many",), None, ZeroDivisionError("none")])
async def test_a_function_that_fails_is_logged_once_and_costs_nothing_else(
    wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [wrong, wrong, (2.0, 1.0, 8), wrong, (2.0, 1.0, 8)]

    def load(shard: ShardId) -> Any:
        answer = answers.pop(0) if answers else (2.0, 1.0, 8)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with caplog.at_level(logging.ERROR, "muster.agent"):
        async with telling(load=load) as node:
            await until(lambda: len(node.control.loads) >= 5)
            assert node.serves
    told = [body["keyspaces"] for body in node.control.loads[:5]]
    whole = {"users": [[0, 2.0, 1.0, 8]]}
    assert told == [{}, {}, whole, {}, whole]
    assert len(caplog.records) == 2, "the second failure in a row is not told again"


async def test_a_controller_that_does_not_listen_costs_nothing() -> None:
    async with telling(load=lambda shard: (1.0,)) as node:
        await until(lambda: node.control.loads)
        node.control.away = True
        before = len(node.control.loads)
        await until(lambda: len(node.control.loads) >= before + 3)
        node.control.away = False
        await until(lambda: node.serves)
