"""The cluster's key: a file with the secret by which the controllers of one log know each other.

It holds 32 random bytes or more as hexadecimal or Base64 text, and nobody but its owner may read it. The first controller of
a data folder makes one there; all others of the cluster are given the same.
"""

import binascii
import os
import re
import secrets
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import Final

from muster.wire.error import NotReady

KEY_FILE: Final = "cluster.key"
secret_bytes_min: Final = 32
text_bytes_max: Final = 4_096
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+")


def read_key(file: Path) -> bytes:
    """The secret in the file. Raises NotReady, with what to do, when it cannot be one or is not kept from others."""
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read(text_bytes_max + 1)
    except FileNotFoundError:
        raise NotReady(
            f"--cluster-key {file} is not there; copy the one of the other controllers, "
            f"or make one: (umask 077; openssl rand -hex {secret_bytes_min} > {file})"
        ) from None
    except OSError as error:
        raise NotReady(f"--cluster-key {file} cannot be read: {error.strerror}") from None
    # Asked of the open file, so that what is judged is what was read.
    if os.name == "posix" and mode & 0o077:
        raise NotReady(f"--cluster-key {file} may be read by others (mode {mode & 0o777:04o}); chmod 600 {file}")
    secret = _secret(text)
    if secret is None:
        raise NotReady(
            f"--cluster-key {file} holds no key: {secret_bytes_min} bytes or more as hex or Base64 are wanted"
        )
    if len(secret) < secret_bytes_min:
        raise NotReady(
            f"--cluster-key {file} is too short: {len(secret)} bytes, at least {secret_bytes_min} are wanted"
        )
    return secret


def own_key(folder: Path) -> bytes:
    """The secret of the data folder, made if there is none yet. Raises NotReady as `read_key`, and when it cannot be made."""
    file = folder / KEY_FILE
    if not file.exists():
        try:
            _make(file)
        except OSError as error:
            raise NotReady(f"the cluster's key {file} cannot be made: {error.strerror}") from None
    return read_key(file)


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Whole under another name first: who finds the file reads all of it. A link refuses to replace what another process
    # has made meanwhile, so both have the same key then.
    written = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    try:
        opened = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(opened, "w", encoding="ascii") as out:
            out.write(secrets.token_hex(secret_bytes_min) + "\n")
            out.flush()
            os.fsync(out.fileno())
        with suppress(FileExistsError):
            os.link(written, file)
    finally:
        written.unlink(missing_ok=True)


def _secret(text: bytes) -> bytes | None:
    """The bytes that the text stands for; None: it is neither hexadecimal nor Base64, or far too long."""
    try:
        plain = text.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    if not plain or len(text) > text_bytes_max:
        return None
    # Hexadecimal digits could be Base64, too: every controller has to read the same text alike.
    if _HEX.fullmatch(plain):
        return bytes.fromhex(plain)
    try:
        return b64decode(plain, validate=True)
    except binascii.Error:
        return None
