"""Ready means reads and writes: whoever writes as soon as `/readyz` says so is answered."""

import asyncio
import secrets
from pathlib import Path

import aiohttp
import pytest

from tests.processes.process_on_kafka import KafkaController
from tests.servers import SharedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(120)]
SPEC = {"address": "10.0.0.1", "port": 80}


async def became_ready(session: aiohttp.ClientSession, url: str) -> set[str]:
    """What it said until it was ready."""
    said = set()
    while True:
        try:
            async with session.get(f"{url}/readyz") as answer:
                if answer.status == 200:
                    return said
                said.add((await answer.json())["detail"])
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.01)


async def test_who_writes_at_once_when_it_is_ready_is_answered_by_both_controllers(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    prefix = f"ready-{secrets.token_hex(4)}"
    started = []
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(90):
            for name in ("one", "two"):
                started.append(KafkaController(tmp_path, kafka.bootstrap, prefix, name))
                url = started[-1].url
                said = await became_ready(session, url)
                statuses = []
                for number in range(16):  # Of all partitions.
                    async with session.put(f"{url}/v1/services/s{number}/instances/{name}", json=SPEC) as answer:
                        statuses.append(answer.status)
                assert statuses == [200] * 16
                assert not any("writer  reigns" in detail for detail in said)
    finally:
        for one in started:
            one.end()
