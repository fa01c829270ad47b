"""The file with the cluster's key: made once, and refused where it can be no secret."""

from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.cluster_key import KEY_FILE, own_key, read_key
from muster.wire.error import NotReady

SECRET = bytes(range(200, 232))


def file_with(folder: Path, text: bytes, mode: int = 0o600) -> Path:
    file = folder / "key"
    file.touch(mode=0o600)
    file.write_bytes(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    "text",
    [SECRET.hex().encode(), SECRET.hex().upper().encode() + b"\n", b64encode(SECRET), b64encode(SECRET) + b"\r\n"],
)
def test_hexadecimal_and_base64_are_read(tmp_path: Path, text: bytes) -> None:
    assert read_key(file_with(tmp_path, text)) == SECRET


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (b"", 0o600, "holds no key: 32 bytes or more as hex or Base64"),
        (b"correct horse battery staple", 0o600, "holds no key"),
        ("é".encode() * 40, 0o600, "holds no key"),
        (b"ab" * 3_000, 0o600, "holds no key"),
        (SECRET[:31].hex().encode(), 0o600, "too short: 31 bytes, at least 32"),
        (b64encode(SECRET[:16]), 0o600, "too short: 16 bytes"),
        (SECRET.hex().encode(), 0o640, "may be read by others (mode 0640); chmod 600"),
        (SECRET.hex().encode(), 0o604, "may be read by others (mode 0604); chmod 600"),
    ],
)
def test_what_is_no_secret_is_refused_with_the_reason(tmp_path: Path, text: bytes, mode: int, said: str) -> None:
    with pytest.raises(NotReady) as caught:
        read_key(file_with(tmp_path, text, mode))
    assert said in caught.value.detail
    assert str(tmp_path / "key") in caught.value.detail


def test_a_key_that_was_named_and_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"is not there; copy .* openssl rand -hex 32"):
        read_key(tmp_path / "key")
    with pytest.raises(NotReady, match="cannot be read: Is a directory"):
        read_key(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_has_one_that_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    made = own_key(folder)
    assert len(made) == 32
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert own_key(folder) == read_key(folder / KEY_FILE) == made
    assert own_key(tmp_path / "another") != made
    assert [file.name for file in folder.iterdir()] == [KEY_FILE]


def test_of_many_that_make_it_at_once_all_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as several:
        assert len(set(several.map(own_key, [tmp_path] * 32))) == 1


def test_a_folder_that_takes_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReady, match=r"cluster\.key cannot be made: Not a directory"):
        own_key(tmp_path / "file" / "below")
