"""Topics whose settings are changed, or whose beginning is deleted, under a running controller: nothing more is written."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.kafka.topic import EVENTS, TOPICS
from infra.settings import Settings
from muster import Client
from muster.wire.error import Transient
from tests.hostile.test_lost_topics import admin
from tests.servers import SharedKafka
from workers.controller.process import running
from workers.writer import log_guard

pytestmark = pytest.mark.kafka
[EVENTS_TOPIC] = [topic for topic in TOPICS if topic.name == EVENTS]


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_guard, "look_every_seconds", 0.1)
    monkeypatch.setattr(log_guard, "look_again_seconds", 0.1)


@asynccontextmanager
async def controller(kafka: SharedKafka, data: Path, prefix: str) -> AsyncIterator[str]:
    settings = Settings(data=data, http="127.0.0.1:0", kafka=kafka.bootstrap, prefix=prefix, partitions=1)
    async with running(settings) as found:
        yield found.url


async def written(client: Client, port: int) -> None:
    await client.register("web", "web-1", "10.0.0.1", port)


async def refusal(url: str, said: str) -> str:
    """How a write is refused, once it is refused with these words."""
    port = 1
    async with asyncio.timeout(30), Client(url, timeout_seconds=0.5) as client:
        while True:
            port += 1
            try:
                await written(client, port)
            except Transient as error:
                if said in error.detail:
                    return error.detail
            await asyncio.sleep(0.02)


async def status(url: str, holds: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    """The partition as `/v1/status` has it, once this holds of it."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/v1/status") as answer:
                [partition] = (await answer.json())["partitions"]
            if holds(partition):
                found: dict[str, object] = partition
                return found
            await asyncio.sleep(0.02)


async def configured(client: AIOKafkaAdminClient, prefix: str, **changes: str) -> None:
    """The events topic with these settings changed: all of them are given, since Kafka forgets those that are not."""
    settings = {**EVENTS_TOPIC.settings, **{name.replace("_", "."): value for name, value in changes.items()}}
    resource = ConfigResource(ConfigResourceType.TOPIC, f"{prefix}.events", configs=settings)
    [response] = await client.alter_configs([resource])
    assert [error for error, *_ in response.resources] == [0]


@pytest.mark.parametrize("changed", [{"cleanup_policy": "compact"}, {"retention_ms": "604800000"}])
async def test_a_setting_that_would_lose_history_stops_writing_until_it_is_mended(
    kafka: SharedKafka, tmp_path: Path, changed: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    prefix = f"endangered-{secrets.token_hex(4)}"
    async with (
        controller(kafka, tmp_path, prefix) as url,
        Client(url) as client,
        admin(kafka) as kafka_,
    ):
        await written(client, 1)
        await configured(kafka_, prefix, **changed)
        [setting] = (name.replace("_", ".") for name in changed)
        assert f"--add-config {setting}=" in await refusal(url, "history would be lost")
        found = await status(url, lambda partition: partition["refused"] is not None)
        assert found["state"] == "following"
        assert "nothing is written to partition 0" in caplog.text
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as metrics:
            assert 'muster_writing_refused{partition="0"} 1.0' in await metrics.text()
        assert [one.instance for one in await client.discover("web", consistency="eventual")] == ["web-1"]

        await configured(kafka_, prefix)
        await status(url, lambda partition: partition["state"] == "reigning")
        await written(client, 65_000)


async def test_history_whose_beginning_is_gone_is_not_added_to(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix = f"endangered-{secrets.token_hex(4)}"
    async with (
        controller(kafka, tmp_path, prefix) as url,
        Client(url) as client,
        admin(kafka) as kafka_,
    ):
        await written(client, 1)
        await kafka_.delete_records({TopicPartition(f"{prefix}.events", 0): RecordsToDelete(before_offset=1)})
        assert "begin at position 1" in await refusal(url, "history before it was deleted")
        assert [one.instance for one in await client.discover("web", consistency="eventual")] == ["web-1"]
    # From its snapshot it starts again, and says so at once.
    async with controller(kafka, tmp_path, prefix) as url, Client(url) as client:
        assert "begin at position 1" in await refusal(url, "history before it was deleted")
        assert [one.instance for one in await client.discover("web", consistency="eventual")] == ["web-1"]
