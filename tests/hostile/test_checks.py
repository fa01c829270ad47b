"""Checks of hostile registrations: they starve nobody else's, and whoever is not checked is told so."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from domain.registry.service import INITIAL, ObserveCheck, RegisterInstance, Service, decide
from infra.settings import Settings
from muster.wire.registry.check import HttpCheck, TcpCheck
from muster.wire.registry.spec import Spec
from tests.sample import evolved
from tests.servers import SharedKafka
from tests.workers.health.test_checker import Target, until
from workers.controller.process import running
from workers.health import job as jobs
from workers.health.checker import Checker


class Registries:
    """Several services, and one checker for all of them."""

    def __init__(self) -> None:
        self.states: dict[str, Service] = {}
        self.checker = Checker(self._observe, seed=1)

    def _observe(self, stream: str, command: ObserveCheck) -> None:
        self._tell(stream, command)

    def register(self, service: str, instance: str, *checks: HttpCheck | TcpCheck) -> None:
        spec = Spec(address="127.0.0.1", port=1, checks=checks)
        self._tell(f"service/{service}", RegisterInstance(instance=instance, spec=spec))

    def _tell(self, stream: str, command: Any) -> None:
        state = self.states.get(stream, INITIAL)
        for event in decide(command, state):
            state = evolved(state, event)
        self.states[stream] = state
        self.checker.sync(stream, command.instance, state.instances.get(command.instance))

    def healths(self, service: str) -> set[str]:
        return {instance.health for instance in self.states[f"service/{service}"].instances.values()}


@asynccontextmanager
async def checking(registries: Registries) -> AsyncIterator[None]:
    loop = asyncio.create_task(registries.checker.run())
    try:
        yield
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


@asynccontextmanager
async def tarpit() -> AsyncIterator[int]:
    """A server that takes every connection and never says a word; its port."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "0.0.0.0", 0, backlog=1024) as server:
        yield server.sockets[0].getsockname()[1]


def hostile(port: int, number: int) -> tuple[HttpCheck, ...]:
    """As many as a registration may have, each of which holds a slot for as long as it may."""
    settings: dict[str, Any] = {"interval_seconds": 60, "timeout_seconds": 60}
    # 127.0.0.0/8 is all one machine.
    url = f"http://127.{number}.0.1:{port}/"
    return tuple(HttpCheck(url=url, name=f"c{n}", **settings) for n in range(16))


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    target = Target()
    await target.start()
    yield target
    await target.stop()


@pytest.mark.parametrize("services", [1, 20], ids=["of one service", "of twenty services"])
async def test_registrations_with_a_tarpit_stop_nobody_elses_checks(target: Target, services: int):
    registries = Registries()
    async with tarpit() as port, checking(registries):
        for number in range(20):
            registries.register("web", f"w{number}", target.check())
        await until(lambda: registries.healths("web") == {"healthy"})
        for number in range(20):
            # All over, or all on one, which is the host of the others too: each kind of share on its own.
            host = number + 1 if services == 1 else 0
            registries.register(f"bad{number % services}", f"b{number}", *hostile(port, host))
        await until(lambda: registries.checker.stats.waiting > 50)

        # What is known goes on in time, and what is new has its first result.
        asked, began = len(target.asked), time.monotonic()
        registries.register("new", "n1", target.check())
        await until(lambda: registries.healths("new") == {"healthy"}, seconds=3)
        await until(lambda: time.monotonic() - began > 1)
        assert len(target.asked) - asked > 20 * 5
        target.status = 503
        await until(lambda: registries.healths("web") == {"unhealthy"}, seconds=3)


async def test_what_is_not_checked_in_time_is_told(
    target: Target, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(jobs, "OVERDUE_GRACE_SECONDS", -2.3)
    target.answers.clear()
    registries = Registries()
    registries.register("web", "w1", target.check(interval_seconds=0.5, timeout_seconds=2.0))
    began = datetime.now(UTC)
    with caplog.at_level(logging.WARNING):
        assert registries.checker.not_checked_since("service/web", "w1", "http") is None
        await until(lambda: registries.checker.stats.overdue == 1)
        since = registries.checker.not_checked_since("service/web", "w1", "http")
        assert since is not None
        assert abs((since - began).total_seconds()) < 1
        async with checking(registries):
            await until(lambda: "checks have not run for longer than their interval" in caplog.text)
            target.answers.set()
            await until(lambda: registries.checker.stats.done > 0)
            await until(lambda: registries.checker.not_checked_since("service/web", "w1", "http") is None)


@pytest.mark.kafka
async def test_a_check_of_the_controllers_kafka_or_postgresql_is_refused(kafka: SharedKafka, tmp_path: Path) -> None:
    """They trust whoever reaches them, and a check comes from where they are reached."""
    prefix, dsn = f"checks-{secrets.token_hex(4)}", "postgresql://127.0.0.1:1/nobody"
    settings = Settings(
        data=tmp_path, http="127.0.0.1:0", kafka=kafka.bootstrap, prefix=prefix, partitions=1, postgres=dsn
    )
    async with running(settings) as found, aiohttp.ClientSession(found.url) as session:
        for port in (int(kafka.bootstrap.rpartition(":")[2]), 1):
            asked = {"kind": "tcp", "host": "127.0.0.1", "port": port}
            spec = {"address": "127.0.0.1", "port": 80, "checks": [asked]}
            assert await refusal(session, spec) == (422, "checks.0.host")


async def refusal(session: aiohttp.ClientSession, spec: dict[str, Any]) -> tuple[int, str | None]:
    """How the registration is refused, once the partition is written."""
    async with asyncio.timeout(30):
        while True:
            async with session.put("/v1/services/orders/instances/a", json=spec) as told:
                if told.status != 503:
                    return told.status, (await told.json()).get("field")
            await asyncio.sleep(0.05)
