"""Where a log is, for the commands that read it: the options that say so, and the log opened for reading."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from rich.console import Console

from workers.cli.option import readable
from workers.cli.server import data_option, kafka_type, prefix_option

if TYPE_CHECKING:
    from infra.log.engine import Engine, PartitionLog

F = TypeVar("F", bound=Callable[..., Any])

_kafka_option: Final = click.option(
    "--kafka", metavar="HOST:PORT", type=kafka_type, help="Read the log on Kafka, not the data folder."
)
_partitions_option: Final = click.option(
    "--partitions", type=click.IntRange(min=1), help="Of the log.  [default: 1, on Kafka 8]"
)


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where the log is: in a data folder, or on Kafka."""

    data: Path
    kafka: str | None
    partitions: int | None
    prefix: str


def place_options(command: F) -> F:
    """The options that say where the log is; the command gets a `LogPlace` as `place`."""

    @wraps(command)
    def wrapped(*args: Any, data: Path, kafka: str | None, partitions: int | None, prefix: str, **kwargs: Any) -> Any:
        if kafka is None:
            readable("--data", data)
        return command(*args, place=LogPlace(data, kafka, partitions, prefix), **kwargs)

    # click shows first what is added last.
    for option in (prefix_option, _partitions_option, _kafka_option, data_option):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


@asynccontextmanager
async def opened(place: LogPlace, *, alone: bool = False) -> "AsyncIterator[Sequence[PartitionLog]]":
    """The log's partitions, for reading only. `alone`: without a child process that reads ahead; the caller has its own."""
    async with opened_engine(place, alone=alone) as engine:
        yield list(engine.logs.values())


@asynccontextmanager
async def opened_engine(place: LogPlace, *, alone: bool = False) -> "AsyncIterator[Engine]":
    """The log and its snapshots, for reading only; see `opened`."""
    from infra.kafka.engine import open_kafka
    from infra.sqlite.engine import open_embedded

    if place.kafka is not None:
        # A command that reads makes no topics: with a misspelt prefix it would leave empty ones.
        async with open_kafka(place.kafka, partitions=place.partitions, prefix=place.prefix, create=False) as engine:
            yield engine
    else:
        # Read-only takes no lock, so that a controller may run on the folder meanwhile.
        async with open_embedded(place.data, partitions=place.partitions, read_only=True, alone=alone) as engine:
            yield engine


@contextmanager
def progress_line(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that shows the progress, in a line on standard error; it shows nothing when no terminal is there."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("reading the log") as status:
        yield status.update
