"""What goes through Faust: a partition's records in batches, of which each record comes to the desk in its order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from tests.workers.telemetry.test_desk import World
from workers.telemetry.app import application
from workers.telemetry.batches import Batches, Record, batch_records_max

RECORDED_MS = 1_800_000_000_123
TOPIC = "t.heartbeats"


def record(partition: int, offset: int, key: bytes | None = b"service/orders") -> Record:
    return ConsumerRecord(TOPIC, partition, offset, RECORDED_MS, 1, key, b"%d" % offset, None, 14, 2, ())


def fetched(counts: Sequence[int]) -> dict[TP, list[Record]]:
    """So many records of each partition, from offset 10 on."""
    return {
        TP(TOPIC, number): [record(number, 10 + place) for place in range(count)] for number, count in enumerate(counts)
    }


def test_each_record_stands_in_one_batch_in_its_order() -> None:
    given = fetched([1, batch_records_max, 2 * batch_records_max + 1])
    found: dict[TP, list[Record]] = {partition: [] for partition in given}
    for partition, batch in Batches().iterate(given):
        assert batch.value is not None
        # Faust goes on behind the offset of what it was given.
        assert (batch.topic, batch.partition, batch.offset) == (*partition, batch.value[-1].offset)
        found[partition] += batch.value
    assert found == given


def test_a_batch_has_an_end() -> None:
    sizes = [len(batch.value or ()) for _, batch in Batches().iterate(fetched([2 * batch_records_max + 1]))]
    assert sizes == [batch_records_max, batch_records_max, 1]


async def test_fausts_agent_brings_its_records_to_the_desk(tmp_path: Path) -> None:
    heard: list[Sequence[Any]] = []
    desk = World().desk()
    desk.hear = lambda *told: heard.append(told)  # type: ignore[method-assign]
    app = application(desk, "127.0.0.1:1", "t", tmp_path)
    app.finalize()
    app.flow_control.resume()
    given = {TP(TOPIC, 3): [record(3, 10), record(3, 11, key=None)]}
    async with app.agents["heartbeats"].test_context() as agent:
        for _, batch in app.conf.ConsumerScheduler().iterate(given):
            await agent.put(batch.value)
    assert heard == [(3, 10, RECORDED_MS, b"service/orders", b"10"), (3, 11, RECORDED_MS, b"", b"11")]
