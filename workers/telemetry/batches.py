"""What goes through Faust: the records of a partition that one fetch has brought, together, as one message.

Faust makes four tasks and some turns of the event loop for each message, whatever is in it. See
docs/decisions/0042-batches-through-faust.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from aiokafka.structs import ConsumerRecord
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP

batch_records_max: Final = 100
"""A batch is taken in without a pause, so that no balancing comes between its records; it must be short for that."""

Record: TypeAlias = ConsumerRecord[bytes, bytes]


class Batches(DefaultSchedulingStrategy):
    """Says in which order the records of a fetch go on. A batch is its last record, with all of its records as the value."""

    def iterate(self, records: Mapping[TP, list[Record]]) -> Iterator[tuple[TP, ConsumerRecord[bytes, list[Record]]]]:
        """The batches of what was fetched."""
        for partition, some in records.items():
            for first in range(0, len(some), batch_records_max):
                batch = some[first : first + batch_records_max]
                # By its last record's offset: Faust goes on, and commits, behind the offset that it was given.
                yield partition, replace(batch[-1], value=batch)
