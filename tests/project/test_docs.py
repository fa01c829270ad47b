"""What the documents say, held against the code: links, commands, topics, errors, settings."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from infra.kafka.topic import TOPICS, topic_name
from muster.cli import main
from muster.wire.error import BY_NAME, Refused, Transient
from muster.wire.problem import status_of
from tests.muster.cli.environment import not_set_up
from workers.http.application import openapi_document

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), ROOT / "muster/README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=str,
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVED: set[str] = {*openapi_document()["paths"], "/openapi.json"}
CONTEXT = click.Context(main)
COMMANDS = {name: command for name in main.list_commands(CONTEXT) if (command := main.get_command(CONTEXT, name))}
FOREIGN_NAMES = {
    *("ProduceRequest", "FetchRequest", "MemoryRecords"),
    "DefaultRecordBatchBuilder",
    "AIOKafkaClient",
    "TypeAdapter",
    *("TermStarted", "InitProducerId", "ListOffsets", "SIGTERM", "SIGKILL", "TLS", "Updated"),
    *("Mapper", "StoredEvent", "Recorder", "ApplicationRecorder", "Application", "Aggregate", "Fragment", "ETag"),
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_decisions_are_numbered_from_one_on_and_say_their_number() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for path in decisions:
        assert path.read_text(encoding="utf-8").startswith(f"# {int(path.name[:4])}. "), named(path)


def prose(path: Path) -> str:
    """The document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def spoken(text: str) -> Iterator[list[str]]:
    """The command lines of muster in the text's blocks of shell, without what the shell does with them."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"[;&]", line):
                words = shlex.split(part, comments=True)
                if words[:1] == ["muster"]:
                    yield words[1:]


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        assert other.exists(), f"{named(path)}: {target}"
        assert not anchor or anchor in anchors(other), f"{named(path)}: {target}"


@pytest.mark.parametrize("words", list(spoken(README)), ids=" ".join)
def test_every_command_in_the_readme_can_be_typed(words: list[str]) -> None:
    name, *arguments = words
    command = COMMANDS[name]
    if isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.get_command(CONTEXT, name)
    assert isinstance(command.make_context(name, arguments), click.Context)


def test_the_readme_and_the_reference_name_every_command() -> None:
    summed_up = re.search(r"`muster (register \|[^`]+)`", README)
    assert summed_up is not None
    assert set(re.split(r"[\s|]+", summed_up[1])) == set(COMMANDS)
    reference = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `muster (\w+)", reference, flags=re.MULTILINE)) == set(COMMANDS)


def test_every_option_in_the_reference_exists() -> None:
    for line in (ROOT / "docs/cli.md").read_text(encoding="utf-8").splitlines():
        found = re.match(r"\| `muster ([\w-]+) ?([\w-]*)", line)
        if found and not {found[1], f"{found[1]} {found[2]}"} & not_set_up():
            command = COMMANDS[found[1]]
            if isinstance(command, click.Group):
                command = command.get_command(CONTEXT, found[2])
            told = set(re.findall(r"`[^`]*?(--[a-z-]+)", line))
            assert told <= options(command), line


def options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def test_the_readme_lists_every_setting_of_a_controller() -> None:
    section = README.partition("## Configuration")[2].partition("\n## ")[0]
    up = COMMANDS["up"]
    assert set(re.findall(r"(--[a-z][a-z-]+)", section)) == {name for name in options(up) if name.startswith("--")}
    variables = {str(parameter.envvar) for parameter in up.params if isinstance(parameter.envvar, str)}
    assert variables <= set(re.findall(r"MUSTER_\w+", section))


def test_the_readme_lists_the_topics_as_they_are() -> None:
    rows = re.findall(r"^\| `(muster\.\w+)` \| (.+?) \| (.+?) \|$", README, flags=re.MULTILINE)
    expected = [(topic_name(topic.name), *topic.title.rpartition("; ")[::2]) for topic in TOPICS]
    assert rows == expected


def test_the_reference_lists_the_errors_with_their_status() -> None:
    reference = (ROOT / "docs/http.md").read_text(encoding="utf-8")
    rows = {name: int(status) for name, status in re.findall(r"^\| `([A-Z]\w+)` \| (\d{3}) \|", reference, flags=re.M)}
    for name, status in rows.items():
        assert status_of(BY_NAME[name]) == status, name
    refusals = {name for name, error in BY_NAME.items() if issubclass(error, Refused)} - {"Refused"}
    assert refusals | {"NotReady", "Timeout", "DataUnavailable", "ReadFailed", "WriteFailed"} == rows.keys()
    assert issubclass(BY_NAME["Timeout"], Transient)


def test_every_test_that_guards_something_exists() -> None:
    cells = re.findall(r"\| ([^|]*) \|$", (ROOT / "docs/guards.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = [
        (file, name)
        for cell in cells
        for file, names in re.findall(r"`(tests/[\w/]+\.py)`((?:(?!`tests/).)*)", cell)
        for name in re.findall(r"\b(?:test_\w+|Test[A-Z]\w*)", names)
    ]
    assert len(told) > 80
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file, _ in told}
    assert [one for one in told if not re.search(rf"\b{one[1]}\b", sources[one[0]])] == []


def test_every_guard_stands_where_it_is_said_to() -> None:
    rows = re.findall(
        r"^\| [^|]* \| ([^|]*) \|", (ROOT / "docs/guards.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    told = [
        (file, part)
        for row in rows
        for file, names in re.findall(r"`([\w./-]+\.py)`((?:(?!`[\w./-]+\.py`).)*)", row)
        for name in re.findall(r"`([A-Za-z_][\w.]*)`", names)
        for part in name.split(".")
    ]
    assert len(told) > 300
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file, _ in told}
    assert [one for one in told if not re.search(rf"\b{one[1]}\b", sources[one[0]])] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_name_in_the_documents_is_one_of_the_code(path: Path) -> None:
    known = BY_NAME.keys() | classes() | FOREIGN_NAMES
    told = set(re.findall(r"`([A-Z][a-z]\w*[A-Z]\w*|[A-Z][a-z]+)`", prose(path)))
    assert told - known == set()
    assert set(re.findall(r"urn:muster:([A-Z]\w+)", path.read_text(encoding="utf-8"))) <= BY_NAME.keys()


def classes() -> set[str]:
    """The names of all classes of ours."""
    folders = ("domain", "sagas", "projections", "infra", "workers", "muster")
    sources = [source.read_text(encoding="utf-8") for folder in folders for source in (ROOT / folder).rglob("*.py")]
    return {name for source in sources for name in re.findall(r"^class (\w+)", source, flags=re.MULTILINE)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_examples_import_only_what_a_user_has(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        imported = set(re.findall(r"^ *(?:from|import) (\w+)", block, flags=re.MULTILINE))
        assert not imported & {"domain", "infra", "projections", "sagas", "workers"}, block


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_path_of_the_documents_is_served(path: Path) -> None:
    told = re.findall(r"`(?:[A-Z`· ]+ )?(/v1/[^`?…\s]+|/healthz|/readyz|/metrics)", prose(path))
    assert {one for one in told if one not in SERVED} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_file_that_the_documents_name_exists(path: Path) -> None:
    told = re.findall(r"`((?:domain|sagas|projections|infra|workers|muster|examples|docs|tests)/[\w/.]*)`", prose(path))
    assert [one for one in told if not (ROOT / one).exists()] == []
