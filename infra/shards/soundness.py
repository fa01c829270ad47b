"""Whether a store's file is whole, asked before anything of it is read.

LMDB reads through a memory map: a page behind the end of a file that was cut off ends the process with SIGBUS, without a word.
So a file that is shorter than it says is read by another process first, pair by pair:

    python -P -m infra.shards.soundness FOLDER
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import lmdb

from muster.wire.error import Corrupt

DATA_FILE: Final = "data.mdb"
DATABASES: Final = (b"shards", b"pairs", b"changes", b"ids", b"wipes")
DAMAGE: Final = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError)
"""What LMDB raises when the file is none of its own, or is damaged."""


def check_whole(path: Path, environment: lmdb.Environment) -> None:
    """Raises Corrupt when the file of the open environment is cut off. Nothing may have been read of it yet."""
    pages = int(environment.info()["last_pgno"]) + 1
    wanted, found = pages * int(environment.stat()["psize"]), (path / DATA_FILE).stat().st_size
    if found >= wanted:
        return
    # It may be sound all the same: free pages at the end need never have been written.
    program = (sys.executable, "-P", "-m", "infra.shards.soundness", str(path))
    if subprocess.run(program, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
        raise damaged(path, f"{DATA_FILE} has {found} of {wanted} bytes")


def damaged(path: Path, reason: object) -> Corrupt:
    """The error for a store that cannot be read any more."""
    return Corrupt(
        f"the store in {path} is damaged: {reason}. It is left as it is; docs/operations.md, When a node is lost, says what to do"
    )


def read_all(path: Path) -> None:
    """Read every pair of every database."""
    with lmdb.open(str(path), readonly=True, create=False, max_dbs=len(DATABASES) + 1) as environment:
        for name in DATABASES:
            try:
                database = environment.open_db(name, create=False)
            except lmdb.NotFoundError:
                continue
            with environment.begin(db=database) as transaction:
                for _ in transaction.cursor():
                    pass


if __name__ == "__main__":
    read_all(Path(sys.argv[1]))
