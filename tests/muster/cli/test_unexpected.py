"""What nobody has thought of: one line and an exit code, and a traceback only for who asks for it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra.sqlite.folder import LOG_FILE
from muster.cli import main
from tests.muster.client.scripted import answer, wire


def muster(*words: str, **env: str) -> Result:
    return CliRunner().invoke(main, words, env=env)


@pytest.mark.parametrize(
    "words",
    [
        ["up", "--data", "/proc/nobody/data", "--http", "127.0.0.1:0"],
        ["up", "--data", "FILE", "--http", "127.0.0.1:0"],
        ["verify", "--data", "GARBAGE"],
        ["replay", "--data", "GARBAGE"],
        ["node", "run", "--id", "n1", "--data", "/proc/nobody/n1"],
        ["doctor", "--postgres", "no dsn"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_no_command_ends_with_a_traceback(words: list[str], more: list[str], tmp_path: Path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / LOG_FILE).write_text("this is no database" * 500)
    known = {"FILE": tmp_path / "file", "GARBAGE": tmp_path / "garbage"}
    result = muster(*(str(known.get(word, word)) for word in words), *(more if words[0] not in ("up", "node") else []))
    assert result.exit_code in (1, 2, 3, 4), result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    if more and words[0] in ("verify", "replay"):
        assert json.loads(result.stdout)["error"]["detail"]


async def test_an_answer_that_nobody_can_read_is_one_line():
    import asyncio

    async with wire(answer({"items": [{"service": 1}]})) as served:
        words = ["services", "--url", served.url]
        result = await asyncio.to_thread(muster, *words)
        assert (result.exit_code, result.stdout) == (4, "")
        assert result.stderr.startswith("Unexpected: ValidationError: ")
        assert "MUSTER_DEBUG=1" in result.stderr
        assert result.stderr.count("\n") == 1
        told = await asyncio.to_thread(muster, *words, "--json")
        assert json.loads(told.stdout)["error"]["name"] == "Unexpected"
        debugged = await asyncio.to_thread(muster, *words, MUSTER_DEBUG="1")
        assert "Traceback" in debugged.stderr


def test_a_wrong_command_line_is_quoted_without_obeying_it():
    for words in (["events", "--limit", "\x1b[2J"], ["--\x1b[2J"], ["\x1b[2J"], ["register", "a", "b", "--\x1b[2J"]):
        result = muster(*words)
        assert result.exit_code == 2
        assert words == ["--\x1b[2J"] or r"\x1b[2J" in result.stderr
        assert words == ["--\x1b[2J"] or "\x1b" not in result.stderr
