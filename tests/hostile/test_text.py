"""Text of others is text: never markup, never a control sequence, never a second line. In every command, every way."""

import asyncio
import json
import os
import pty
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from muster import Client, PublishedCommand
from muster.cli import main
from tests.hostile.hostile_answers import HOSTILE, hostile_controller
from tests.muster.controller import controller
from tests.muster.data_node import data_node

ROOT = Path(__file__).parents[2]
READS = [
    "services",
    "instances s",
    "discover s",
    "history s i",
    "events",
    "status",
    "keyspaces",
    "shards k",
    "route k a",
    "nodes",
    "limits",
    "migrations",
    "migration show k/1",
    "sagas",
    "saga show keyspace/k/migration/1",
    "watch s --changes 2",
]
WRITES = [
    "register s i --address h --port 80",
    "deregister s i",
    "drain s i",
    "undrain s i",
    "maintenance s i",
    "heartbeat s i",
    "keyspace create k --shards 1",
    "keyspace assign k",
    "pin k 1",
    "unpin k 1",
    "move k 1 --to n2",
    "migration pause k/1",
    "migration skip k/1",
    "saga abort keyspace/k/migration/1",
    "node drain n1",
    "node cordon n1",
    "node remove n1",
    "limits --node-moves 2",
]


@pytest.fixture
async def hostile() -> AsyncIterator[str]:
    async with hostile_controller() as url:
        yield url


async def run(url: str, *words: str) -> Result:
    """The command, in a thread of its own: the controller that answers it runs here."""
    env = {"MUSTER_URL": url, "MUSTER_ACTOR": "t"}
    return await asyncio.to_thread(CliRunner().invoke, main, [*words, "--timeout", "5"], env=env)


def assert_harmless(text: str) -> None:
    """Line ends are ours; a forged line would begin with what stands behind the line's end in it."""
    assert all(line.isprintable() for line in text.split("\n")), text
    assert not any(line.startswith("forged") for line in text.split("\n")), text


@pytest.mark.parametrize("words", [*READS, *WRITES])
async def test_no_command_obeys_what_a_controller_says(hostile: str, words: str):
    result = await run(hostile, *words.split())
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.output
    assert_harmless(result.output)


@pytest.mark.parametrize("words", READS)
async def test_what_looks_like_markup_is_shown_as_it_is(hostile: str, words: str):
    shown = re.sub(r"\s", "", (await run(hostile, *words.split())).stdout)
    # These show numbers and names alone, and no text of anybody.
    if words not in ("limits", "route k a"):
        assert "[/x]" in shown
        assert "[link=https://e]" in shown
        assert ":smile:" in shown


@pytest.mark.parametrize("words", [*READS, *WRITES])
async def test_nor_does_json_though_it_says_the_same(hostile: str, words: str):
    result = await run(hostile, *words.split(), "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    assert_harmless(result.output)
    found = [text for line in result.stdout.split("\n")[:-1] for text in texts(json.loads(line))]
    assert words not in READS or words == "limits" or HOSTILE in found


def texts(value: object) -> list[str]:
    """All texts in the document."""
    match value:
        case str():
            return [value]
        case dict():
            return [found for name, item in value.items() for found in (name, *texts(item))]
        case list():
            return [found for item in value for found in texts(item)]
        case _:
            return []


@pytest.mark.parametrize("words", [*READS, *WRITES, "put k a b", "get k a", "delete k a", "scan k"])
async def test_a_refusal_neither(words: str):
    async with hostile_controller(refuses=True) as url:
        for more in ((), ("--json",)):
            result = await run(url, *words.split(), *more)
            assert result.exit_code in (1, 3), (result.output, result.exception)
            assert "VerbNotAllowed" in result.output
            assert_harmless(result.output)


async def test_what_anyone_may_register_hides_from_nobody(tmp_path: Path):
    async with controller(tmp_path / "data") as url, Client(url) as client:
        spec = {"address": "fd00::7", "port": 8080, "tags": ["[/x]", ":bug:"], "zone": "[bold]z"}
        data = {"instance": "i1", "spec": spec}
        type_ = "muster.instance.register.v1"
        await client.commands([PublishedCommand(type=type_, stream="service/v6", data=data, reason=HOSTILE)])
        await client.drain("v6", "i1", reason="\x1b]0;x\x07\x1b[2Jgone [INC-7]")
        for words in ("instances v6", "history v6 i1", "events"):
            result = await run(url, *words.split())
            assert result.exit_code == 0, (result.output, result.exception)
            assert_harmless(result.output)
        assert "[fd00::7]:8080" in (await run(url, "instances", "v6")).stdout
        told = (await run(url, "history", "v6", "i1")).stdout
        assert r"\x1b[2Jgone [INC-7]" in told
        assert r"\x1b[2J\x1b]8;;http://e\x07[/x] [link=https://e]l[/link] :smile:" in told
        for words in ("verify", "replay --projection instances", "replay"):
            result = await run_here(*words.split(), "--data", str(tmp_path / "data"))
            assert result.exit_code == 0, (result.output, result.exception)
            assert_harmless(result.output)
        assert (
            "[bold]z"
            in (await run_here("replay", "--projection", "instances", "--data", str(tmp_path / "data"))).stdout
        )


async def run_here(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, words)


async def test_a_value_is_bytes_for_a_pipe_and_text_for_a_terminal(tmp_path: Path):
    value = b"one\n\x1b[2Jtwo \xc2\x9b \xff"
    async with controller(tmp_path / "data") as url, data_node("n1", tmp_path / "n1", url), Client(url) as client:
        while not (await client.shards.nodes()).items:  # noqa: ASYNC110 the node is elsewhere, and sets no event
            await asyncio.sleep(0.02)
        await client.shards.create_keyspace("k", 1)
        put = await asyncio.to_thread(
            CliRunner().invoke, main, ["put", "k", "a\x1b[2J", "-"], env={"MUSTER_URL": url}, input=value
        )
        assert put.exit_code == 0, put.output
        assert_harmless(put.output)
        assert (await run(url, "get", "k", "a\x1b[2J")).stdout_bytes == value
        assert_harmless((await run(url, "scan", "k")).output.replace("\t", " "))
        assert await on_a_terminal(url, "get", "k", "a\x1b[2J") == b"one\r\n\\x1b[2Jtwo \\x9b \\xff\r\n"


async def on_a_terminal(url: str, *words: str) -> bytes:
    """What the command writes where it finds a terminal."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "MUSTER_URL": url, "TERM": "xterm"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "muster", *words, stdout=theirs, cwd=ROOT, env=env
    )
    os.close(theirs)
    await process.wait()
    found = os.read(ours, 65_536)
    os.close(ours)
    return found


def test_all_that_commands_write_passes_one_rim():
    """`say`, `show` and `as_text`; the values of `get` and `scan` have their own, in muster/cli/shards/data.py."""
    writes = re.compile(r"click\.(echo|secho)\(|\bprint\(|sys\.std(out|err)\.write|add_row\((?!Text\()")
    rims = {"muster/cli/outcome.py", "muster/cli/table.py", "muster/cli/shards/data.py"}
    files = [*ROOT.glob("muster/cli/**/*.py"), *ROOT.glob("workers/cli/**/*.py")]
    found = {
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in files
        if file.relative_to(ROOT).as_posix() not in rims
        for line in file.read_text(encoding="utf-8").splitlines()
        if writes.search(line) and not line.strip().startswith("console().print(")
    }
    assert found == set()
