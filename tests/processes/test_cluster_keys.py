"""Controllers of one log that were given different keys by mistake: they say so, and leave each other alone."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from infra.cluster_key import KEY_FILE
from muster import Client
from tests.processes.process_on_kafka import KafkaController, MusterProcess, cluster_key
from tests.servers import SharedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(180)]
SERVICES = [f"service-{number}" for number in range(16)]
LOOKS_ALIKE = 40


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(60):
        while not (found := await holds()):  # noqa: ASYNC110 what is asked is elsewhere, and sets no event
            await asyncio.sleep(0.05)
        return found


class Two:
    """Two controllers on one log, with a key of its own each."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self._folder, self._bootstrap = folder, bootstrap
        self._prefix = f"keys-{secrets.token_hex(4)}"
        self._started: list[KafkaController] = []

    async def __aenter__(self) -> "Two":
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self._started:
            one.end()
        await self._session.close()

    def start(self, name: str) -> KafkaController:
        key = cluster_key(self._folder / f"key-of-{name}")
        self._started.append(KafkaController(self._folder, self._bootstrap, self._prefix, name, key))
        return self._started[-1]

    async def told(self, controller: KafkaController, path: str) -> tuple[int, Any]:
        try:
            async with self._session.get(controller.url + path) as answer:
                return answer.status, await answer.json()
        except aiohttp.ClientConnectorError:
            return 0, {}

    async def not_ready(self, controller: KafkaController) -> str | None:
        """Why it is not, once that is the other's key."""
        status, problem = await self.told(controller, "/readyz")
        return problem["detail"] if status == 503 and "--cluster-key" in problem["detail"] else None

    async def reigns(self, controller: KafkaController) -> list[tuple[int, str]]:
        """Of each partition, the term and its writer."""
        _, status = await self.told(controller, "/v1/status")
        return [(one["term"], one["writer"]) for one in status.get("partitions", ())]

    async def strangers(self, controller: KafkaController) -> list[dict[str, Any]]:
        _, status = await self.told(controller, "/v1/status")
        return [one for one in status.get("conditions", ()) if one["kind"] == "stranger"]


async def write_all(client: Client, instance: str) -> None:
    for service in SERVICES:
        await client.register(service, instance, "127.0.0.1", 80)


async def test_a_newcomer_with_another_key_disturbs_nobody_and_says_what_to_do(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    async with Two(tmp_path, kafka.bootstrap) as two:
        first = two.start("first")
        async with Client(first.url, timeout_seconds=60) as client:
            await write_all(client, "before")
            before = await two.reigns(first)
            newcomer = two.start("newcomer")
            why = await until(lambda: two.not_ready(newcomer))
            assert f"is written by {before[0][1]}" in why
            [condition] = await until(lambda: two.strangers(newcomer))
            assert condition["url"] == first.url
            assert "left to it" in condition["reason"]
            [condition] = await until(lambda: two.strangers(first))
            assert condition["url"] == newcomer.url
            # No retry hides anything here: each write has one try.
            async with Client(first.url, timeout_seconds=0.5) as hasty:
                for number in range(20):
                    await write_all(hasty, f"meanwhile-{number}")
            assert await two.reigns(first) == before
            assert len((await two.told(first, "/v1/controllers"))[1]["items"]) == 1
        async with Client(newcomer.url, timeout_seconds=0.2) as lost:
            with pytest.raises(Exception, match="--cluster-key"):
                await lost.register("service-0", "at-the-newcomer", "127.0.0.1", 80)
        # Once the reigning one is gone the other is a controller like any other.
        first.end()
        async with Client(newcomer.url, timeout_seconds=60) as client:
            await write_all(client, "behind")
            found = {one.instance for one in (await client.instances("service-0")).items}
            assert {"before", "behind"} <= found
            assert "at-the-newcomer" not in found


async def test_two_that_start_at_once_do_not_depose_each_other_for_ever(kafka: SharedKafka, tmp_path: Path) -> None:
    async with Two(tmp_path, kafka.bootstrap) as two:
        one, other = two.start("one"), two.start("other")
        seen: list[list[tuple[int, str]]] = []

        async def calm() -> bool:
            seen.append(await two.reigns(one))
            newest = seen[-LOOKS_ALIKE:]
            is_written = bool(newest[0]) and all(writer for _, writer in newest[0])
            settled = len(newest) == LOOKS_ALIKE and all(reigns == newest[0] for reigns in newest)
            return is_written and settled and await two.reigns(other) == newest[0]

        await until(calm)
        assert max(term for term, _ in seen[-1]) <= 4
        for controller in (one, other):
            assert await until(lambda controller=controller: two.strangers(controller))


async def test_a_key_that_others_may_read_ends_the_start_with_what_to_do(kafka: SharedKafka, tmp_path: Path) -> None:
    key = cluster_key(tmp_path)
    key.chmod(0o644)
    controller = KafkaController(tmp_path, kafka.bootstrap, "never", "one", key)
    await until(lambda: asyncio.to_thread(controller.ended))
    assert f"NotReady: --cluster-key {key} may be read by others (mode 0644); chmod 600 {key}" in controller.log()


async def test_an_embedded_controller_makes_no_key(tmp_path: Path) -> None:
    controller = MusterProcess(tmp_path / "log", "up", "--data", str(tmp_path / "data"), "--http", "127.0.0.1:0")
    try:

        async def is_ready() -> bool:
            return "muster is ready" in controller.log()

        await until(is_ready)
        assert not (tmp_path / "data" / KEY_FILE).exists()
    finally:
        controller.end()
