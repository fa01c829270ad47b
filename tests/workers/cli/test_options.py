"""Options whose value can never be used: one line that names the option and the reason, exit code 2, and nothing is begun."""

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra.option import kafka_address, listen_address, postgres_address, schema_of, topic_prefix, web_address
from infra.settings import Settings
from muster.cli import main
from muster.wire.error import NotReady
from workers.cli.backup import backup

UP = ["up", "--data", "DATA", "--http", "127.0.0.1:0"]
NODE = ["node", "run", "--id", "n1", "--data", "DATA"]
DSN = "postgresql://me:secret@127.0.0.1:1/x"


def muster(words: list[str], folder: Path) -> Result:
    words = [word.replace("DATA", str(folder / "data")).replace("FILE", str(folder / "file")) for word in words]
    # By its own object: an environment that was set up before there was the command knows no entry point of it.
    found, more = (backup, words[1:]) if words[0] == "backup" else (main, words)
    return CliRunner().invoke(found, more)


@pytest.mark.parametrize(
    "words",
    [
        [*UP, "--http", "foo"],
        [*UP, "--http", "foo:²"],
        [*UP, "--http", "127.0.0.1"],
        [*UP, "--http", "127.0.0.1:99999"],
        [*UP, "--http", "[::1:80"],
        [*UP, "--http", ""],
        [*UP, "--postgres", "foo"],
        [*UP, "--postgres", ""],
        [*UP, "--postgres", "http://x"],
        [*UP, "--postgres", "postgresql://me:secret@h:port/x"],
        [*UP, "--postgres", "postgresql://me:secret@h:99999/x"],
        [*UP, "--postgres", "postgresql://me:secret@[::1/x"],
        [*UP, "--postgres", "postgresql://me:secret@h/x?sslmode=banana"],
        [*UP, "--kafka", "foo:bar"],
        [*UP, "--kafka", "127.0.0.1:99999"],
        [*UP, "--kafka", "a:1,,b:2"],
        [*UP, "--kafka", ""],
        [*UP, "--prefix", ""],
        [*UP, "--prefix", "Ünïcode"],
        [*UP, "--prefix", "a b"],
        [*UP, "--prefix", "x" * 201],
        [*UP, "--prefix", "x" * 64, "--postgres", DSN],
        [*UP, "--prefix", "pg_mine", "--postgres", DSN],
        [*UP, "--advertise", "foo"],
        [*UP, "--advertise", "http://"],
        [*UP, "--cluster", ""],
        [*UP, "--cluster", "a\nb"],
        [*UP, "--check-interval-min", "nan"],
        [*UP, "--check-interval-min", "inf"],
        [*UP, "--mass-flip-seconds", "nan"],
        [*UP, "--mass-flip-seconds", "-1"],
        [*UP, "--mass-flip-seconds", "86401"],
        [*UP, "--data", "FILE"],
        [*UP, "--data", "FILE/x"],
        [*UP, "--data", "/proc/x"],
        [*UP, "--data", "/proc/x", "--kafka", "local"],
        [*NODE, "--data", "/proc/x"],
        [*NODE, "--data", "FILE/x"],
        [*NODE, "--listen", "foo"],
        [*NODE, "--listen", ""],
        [*NODE, "--listen", "127.0.0.1:-1"],
        [*NODE, "--advertise", "foo"],
        [*NODE, "--advertise", "h:0"],
        [*NODE, "--id", ""],
        [*NODE, "--id", "a b/c"],
        [*NODE, "--capacity", "0"],
        [*NODE, "--capacity", "nan"],
        [*NODE, "--lease-seconds", "-1"],
        [*NODE, "--lease-seconds", "inf"],
        [*NODE, "--serve-bytes-per-second", "0"],
        ["services", "--timeout", "nan"],
        ["services", "--timeout", "inf"],
        ["services", "--timeout", "0"],
        ["verify", "--data", "FILE/x"],
        ["verify", "--data", "/proc/x"],
        ["verify", "--kafka", "foo:bar"],
        ["verify", "--kafka", "127.0.0.1:1", "--prefix", "a b"],
        ["replay", "--data", "/proc/x"],
        ["replay", "--into", "foo"],
        ["replay", "--into", DSN, "--schema", "Bad-Name"],
        ["backup", "FILE/x", "--data", "/proc/x"],
        ["doctor", "--postgres", "foo"],
        ["doctor", "--kafka", "foo:bar"],
    ],
    ids=" ".join,
)
def test_a_value_that_can_never_be_used_is_refused_with_its_option(words: list[str], tmp_path: Path):
    (tmp_path / "file").touch()
    refused = muster(words, tmp_path)
    assert refused.exit_code == 2, refused.output
    assert isinstance(refused.exception, SystemExit), refused.exception
    [line] = [line for line in refused.stderr.splitlines() if line.startswith("Error: ")]
    options = [word for word in words if word.startswith("--")]
    assert any(option in line for option in options), line
    assert "secret" not in refused.output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000])
@pytest.mark.parametrize("words", [UP, NODE, ["verify", "--data", "DATA"], ["backup", "copy", "--data", "DATA"]])
def test_a_folder_without_permission_is_refused_with_its_option(words: list[str], mode: int, tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "log.sqlite").touch()
    folder.chmod(mode)
    try:
        refused = muster(words, tmp_path)
    finally:
        folder.chmod(0o700)
    assert refused.exit_code == 2, refused.output
    assert re.search("Error: Invalid value for '?--data'?: ", refused.stderr)


def test_what_may_be_used_is_taken_as_it_is():
    for check, values in {
        listen_address: ("127.0.0.1:0", "[::1]:8740", "localhost:8740", "0.0.0.0:1"),
        web_address: ("http://10.0.0.1:8740", "https://muster.internal"),
        kafka_address: ("local", "broker", "broker:9092", "a:1,b:2", "[::1]:9092", "10.0.0.1"),
        postgres_address: (
            *("local", DSN, "postgres:///x?host=/run/postgresql", "postgresql://a:1,b:2/x"),
            "postgresql://u:p%40x@[::1]:5432/x?sslmode=verify-full",
        ),
        topic_prefix: ("muster", "order", "2fast", "my-app", "a.b_c"),
    }.items():
        assert [check(value) for value in values] == list(values)
    assert [schema_of(prefix) for prefix in ("order", "2fast", "My-App")] == ["order", "2fast", "my_app"]


def test_settings_that_were_made_in_a_program_are_checked_as_well():
    for wrong in ({"kafka": "foo:bar"}, {"postgres": "foo"}, {"prefix": "a b"}, {"cluster": ""}, {"advertise": "foo"}):
        with pytest.raises(NotReady, match=f"--{next(iter(wrong))}"):
            Settings(http="127.0.0.1:0", **wrong).check()
