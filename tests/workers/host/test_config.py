"""The files of a host: what they say, and what is wrong with them, told with file, table and field."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from muster.wire.error import InvalidInstance
from muster.wire.registry.check import HttpCheck, TcpCheck
from workers.host import config
from workers.host.config import read_folder

WHOLE = """
[[instance]]
service = "orders"
instance = "orders-1"
address = "10.0.0.7"
port = 8080
tags = ["blue"]
metadata = { version = "1.4" }
zone = "eu-1a"
weight = 3
lease_seconds = 12

[[instance.check]]
kind = "http"
url = "http://127.0.0.1:8080/health"
interval_seconds = 0.5

[[instance.check]]
kind = "tcp"
host = "127.0.0.1"
port = 8080

[[instance]]
service = "orders"
instance = "orders-2"
address = "10.0.0.7"
port = 8081
"""
PLAIN = '[[instance]]\nservice = "users"\ninstance = "users-1"\naddress = "10.0.0.7"\nport = 9000\n'


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / f"{name}.toml").write_text(text)
    return path


def test_all_files_of_the_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no TOML")
    found = read_folder(folder(tmp_path, orders=WHOLE, users=PLAIN, empty=""))
    assert list(found) == [("orders", "orders-1"), ("orders", "orders-2"), ("users", "users-1")]
    first, second = found["orders", "orders-1"], found["orders", "orders-2"]
    assert (first.spec.tags, first.spec.metadata, first.spec.zone) == (("blue",), {"version": "1.4"}, "eu-1a")
    assert (first.spec.weight, first.spec.lease_seconds, first.lease_seconds) == (3, 12.0, 12.0)
    assert [type(check) for check in first.checks] == [HttpCheck, TcpCheck]
    # The controller checks nothing of it.
    assert first.spec.checks == ()
    assert (second.checks, second.lease_seconds, second.spec.heartbeats) == ((), 30.0, "direct")


def test_what_editors_keep_beside_the_files_is_none_of_them(tmp_path: Path) -> None:
    folder(tmp_path, users=PLAIN)
    # A lock of an editor, and what it saves by itself.
    (tmp_path / ".#users.toml").symlink_to("ada@web-1.4711:1764547200")
    (tmp_path / ".users.toml").write_text("half a tab")
    assert list(read_folder(tmp_path)) == [("users", "users-1")]


def test_a_file_is_utf_8_whatever_the_locale_says_with_or_without_a_mark(tmp_path: Path) -> None:
    (tmp_path / "users.toml").write_bytes(f'\ufeff{PLAIN}tags = ["größe"]'.encode())
    read = (
        "import sys; from pathlib import Path; from workers.host.config import read_folder\n"
        "print(*(ascii(one.spec.tags) for one in read_folder(Path(sys.argv[1])).values()))"
    )
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    told = subprocess.run([sys.executable, "-c", read, tmp_path], env=plain, capture_output=True, text=True)
    assert (told.stdout, told.stderr) == ("('gr\\xf6\\xdfe',)\n", "")


def test_where_telemetry_keeps_the_leases_they_say_so(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, users=PLAIN), "topic")
    assert found["users", "users-1"].spec.heartbeats == "topic"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[instance", "a.toml: it is no TOML: "),
        ("[instance]\nport = 1", "a.toml: instance: it must be a list of tables"),
        ("a = " + "[" * 5_000, "a.toml: it is no TOML: it is nested too deep"),
        (PLAIN.replace("9000", "9" * 5_000), "a.toml: it is no TOML: "),
        ("instances = 1", "a.toml: instances: there is no such field"),
        ("instance = [1]", "a.toml: instance 1: it must be a table"),
        (PLAIN + PLAIN.replace("users-1", "-x"), "a.toml: instance 2: instance: must be 1 to 128"),
        (PLAIN.replace("9000", "0"), "a.toml: instance 1: port: "),
        (PLAIN.replace("port = 9000", ""), "a.toml: instance 1: port: "),
        (PLAIN + "wieght = 3", "a.toml: instance 1: wieght: there is no such field"),
        (PLAIN + "lease_seconds = 0", "a.toml: instance 1: lease_seconds: "),
        (PLAIN + PLAIN, "a.toml: instance 2: users/users-1 stands in a.toml: instance 1 too"),
        (PLAIN + '[[instance.check]]\nkind = "http"\nurl = "ftp://x"', "a.toml: instance 1: check 1: url: "),
        (PLAIN + '[[instance.check]]\nkind = "ping"', "a.toml: instance 1: check 1: "),
        (PLAIN + '[[instance.check]]\nkind = "tcp"\nhost = "a b"\nport = 1', "a.toml: instance 1: check 1: host: "),
        (PLAIN + '[[instance.check]]\nkind = "ttl"\nttl_seconds = 3', "a.toml: instance 1: check 1: kind: "),
        (PLAIN + '[[instance.check]]\nkind = "no"', "a.toml: instance 1: check"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidInstance) as caught:
        read_folder(folder(tmp_path, a=text))
    assert caught.value.detail.startswith(told), caught.value.detail


def test_a_lease_that_telemetry_cannot_keep_is_refused_here_already(tmp_path: Path) -> None:
    with pytest.raises(InvalidInstance, match=r"a\.toml: instance 1: lease_seconds: at least 10 s"):
        read_folder(folder(tmp_path, a=PLAIN + "lease_seconds = 5"), "topic")


def test_an_instance_stands_in_one_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInstance, match=r"b\.toml: instance 1: users/users-1 stands in a\.toml: instance 1 too"):
        read_folder(folder(tmp_path, a=PLAIN, b=PLAIN))


def test_one_process_takes_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "instances_max", 2)
    with pytest.raises(InvalidInstance, match="3 instances; one process takes 2"):
        read_folder(folder(tmp_path, a=WHOLE, b=PLAIN))


def test_a_folder_has_to_be_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", folder(tmp_path, a=PLAIN) / "a.toml"):
        with pytest.raises(InvalidInstance, match="there is no such folder"):
            read_folder(path)


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    folder(tmp_path, a=PLAIN)
    # Root may read everything, so somebody else tries.
    read = (
        "import os, sys; from pathlib import Path; from workers.host.config import read_folder\n"
        "from muster.wire.error import InvalidInstance\n"
        "os.chmod(sys.argv[1], 0o300)\n"
        "if os.getuid() == 0: os.chown(sys.argv[1], 65534, 65534); os.chdir(sys.argv[1]); os.setuid(65534)\n"
        "try: print(len(read_folder(Path('.' if os.getcwd() == sys.argv[1] else sys.argv[1]))))\n"
        "except InvalidInstance as error: print(error.detail)\n"
    )
    told = subprocess.run([sys.executable, "-c", read, tmp_path], capture_output=True, text=True)
    tmp_path.chmod(0o700)
    assert told.stdout.endswith(": it cannot be read: Permission denied\n"), told


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    folder(tmp_path, a=PLAIN)
    os.mkfifo(tmp_path / "b.toml")
    with pytest.raises(InvalidInstance, match=r"b\.toml: it is no file"):
        read_folder(tmp_path)
    (tmp_path / "b.toml").unlink()
    (tmp_path / "b.toml").symlink_to("b.toml")
    with pytest.raises(InvalidInstance, match=r"b\.toml: it cannot be read: Too many levels of symbolic links"):
        read_folder(tmp_path)
