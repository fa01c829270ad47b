"""One partition's record batches from Kafka, fetch by fetch: the next one is on its way while the last one is taken in.

aiokafka's consumer asks for more when all that it has is taken, and makes an object of eleven fields of every record. A long
log is read from one partition after another, so its reader and the broker would wait for each other, a thousand times. Built
on aiokafka's client, protocol and record modules, as `infra.kafka.appends` is.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

_RETRY_SECONDS: Final = 0.05
_STOP_TIMEOUT_SECONDS: Final = 2.0
_NO_REPLICA: Final = -1
_READ_UNCOMMITTED: Final = 0  # The chain says what is history; there are no transactions.
_LATEST: Final = -1
_BYTES_MIN: Final = 1  # The broker answers a waiting fetch as soon as one record is there.

T = TypeVar("T")


class Fetch(NamedTuple):
    """What a fetch brought: aiokafka's record batches (the first may begin before the position that was asked for), where the
    next fetch goes on, and one past the last position that the partition has. No batches: there is nothing more yet.
    """

    batches: list[Any]
    next: int
    end: int


class Fetches:
    """The fetches of one reading, over connections of its own. `start` it, and `close` it in any case.

    `bytes_max`: the size of a fetch; a larger record batch still comes whole. `wait_seconds`: how long a fetch waits at the
    end of the log. `silent_seconds`: how long nothing may be heard from the broker. Everything raises KafkaError, if it may
    pass only after that time.
    """

    def __init__(
        self,
        bootstrap: str,
        here: TopicPartition,
        *,
        bytes_max: int,
        wait_seconds: float,
        silent_seconds: float,
        client_options: Mapping[str, object],
    ) -> None:
        self._here = here
        self._bytes_max = bytes_max
        self._wait_ms = int(wait_seconds * 1000)
        self._silent_seconds = silent_seconds
        self._client: Any = AIOKafkaClient(
            bootstrap_servers=bootstrap,
            request_timeout_ms=int(silent_seconds * 1000),
            retry_backoff_ms=int(_RETRY_SECONDS * 1000),
            **client_options,
        )

    async def start(self) -> None:
        """Connect, and learn who leads the partition."""
        await self._client.bootstrap()
        await self._client.add_topic(self._here.topic)

    async def close(self) -> None:
        """Close the connections, also those of a start that failed."""
        # Left to itself if it hangs: it holds nothing else.
        await asyncio.wait({asyncio.ensure_future(self._client.close())}, timeout=_STOP_TIMEOUT_SECONDS)

    async def end(self) -> int:
        """One past the last position. Ask before the first fetch: after one that waits for records, the answer waits too."""
        return await self._patiently(self._end(), self._end)

    async def run(self, position: int, end: int | None) -> AsyncGenerator[Fetch, None]:
        """What stands from the position on, before position `end` and a little more; without one, for ever."""
        ask = partial(self._fetch, position)
        coming = asyncio.ensure_future(ask())
        try:
            while True:
                fetch = await self._patiently(coming, ask)
                if end is not None and fetch.next >= end:
                    yield fetch
                    return
                ask = partial(self._fetch, fetch.next)
                coming = asyncio.ensure_future(ask())
                yield fetch
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _patiently(self, asked: Awaitable[T], ask: Callable[[], Awaitable[T]]) -> T:
        """What was asked. After an error that may pass it is asked again: what was asked while the caller was busy with something
        else may have failed for that alone.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            try:
                return await asked
            except KafkaError as error:
                if not error.retriable or clock() - began >= self._silent_seconds:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)
            await self._client.force_metadata_update()
            asked = ask()

    async def _end(self) -> int:
        (_, offset, *_) = await self._answered(
            OffsetRequest(_NO_REPLICA, _READ_UNCOMMITTED, [(self._here.topic, [(self._here.partition, _LATEST)])])
        )
        return int(offset)

    async def _fetch(self, position: int) -> Fetch:
        topics = [(self._here.topic, [(self._here.partition, position, self._bytes_max)])]
        end, *_, content = await self._answered(
            FetchRequest(self._wait_ms, _BYTES_MIN, self._bytes_max, _READ_UNCOMMITTED, topics)
        )
        batches = _batches(content)
        return Fetch(batches, batches[-1].next_offset if batches else position, end)

    async def _answered(self, request: Any) -> Any:
        """The answer of the partition's leader, without its error code."""
        leader = self._client.cluster.leader_for_partition(self._here)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(f"nobody leads {self._here.topic}/{self._here.partition}")
        ((_, ((_, code, *answer),)),) = (await self._client.send(leader, request)).topics
        if code != 0:
            raise for_code(code)()
        return answer


def _batches(content: bytes | None) -> list[Any]:
    """The whole batches in it; its last one may be cut off."""
    memory: Any = MemoryRecords(content or b"")
    batches: list[Any] = []
    while memory.has_next():
        batches.append(memory.next_batch())
    if content and not batches:
        raise KafkaError(f"no whole record batch is in {len(content)} bytes")
    return batches
