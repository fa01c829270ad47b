"""The command that lists a read model, made from what the model says of itself."""

import asyncio
import json
from dataclasses import dataclass
from typing import Literal

from click.testing import CliRunner, Result

from muster.cli.listing import listing
from muster.cli.table import columns
from muster.wire.read_model import ReadModel
from tests.muster.client.scripted import answer, wire


@dataclass(frozen=True)
class Lock:
    """A lock, as a read model of tomorrow might have it."""

    lock: str
    holder: str | None
    state: Literal["held", "free"] | None
    fair: bool
    position: int


LOCKS = ReadModel(name="locks", item=Lock, key=("lock",), filters=("holder", "state", "fair"))
ROWS = answer(
    {
        "items": [{"lock": "a", "holder": "ann", "state": "held", "fair": True, "position": 7}],
        "token": "0:7",
        "age_seconds": 0.0,
    }
)


async def listed(*words: str, shown: tuple[str, ...] = ()) -> tuple[Result, list[tuple[str, dict[str, str]]]]:
    """What the command line shows, and what it has asked for."""
    command = listing(LOCKS, "List the locks.", columns(*shown))
    async with wire(ROWS) as server:
        result = await asyncio.to_thread(CliRunner().invoke, command, ["--url", server.url, *words])
    return result, [(seen.path, seen.query) for seen in server.seen]


async def test_without_columns_of_its_own_a_table_shows_all_fields():
    result, asked = await listed()
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["LOCK", "HOLDER", "STATE", "FAIR", "POSITION"],
        ["a", "ann", "held", "yes", "7"],
    ]
    assert asked == [("/v1/locks", {})]


async def test_columns_can_be_chosen():
    result, _ = await listed(shown=("lock", "state"))
    assert result.stdout.splitlines()[0].split() == ["LOCK", "STATE"]


async def test_filters_are_options_of_their_fields_types():
    result, asked = await listed(
        "--holder", "ann", "--state", "held", "--fair", "true", "--consistency", "strong", "--json"
    )
    assert json.loads(result.stdout)["items"][0]["lock"] == "a"
    assert asked == [("/v1/locks", {"holder": "ann", "state": "held", "fair": "true", "consistency": "strong"})]


async def test_a_value_that_the_field_cannot_have_is_wrong_usage():
    for words in (("--state", "lost"), ("--fair", "perhaps"), ("--position", "7")):
        result, asked = await listed(*words)
        assert (result.exit_code, asked) == (2, [])
