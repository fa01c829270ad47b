"""A copy of the ledger: while it runs, it is the primary, and appends `epoch member process` to a file, many times a second.

muster group run ledger --as ledger-1 -- python -m examples.ledger FILE

It does not know muster but for two things: the epoch that its runner has put into the environment, and the guard beside the
file, which refuses the lines of an epoch that is over.
"""

import os
import sys
import time
from pathlib import Path
from typing import Final

from muster import Guard

PAUSE_SECONDS: Final = 0.02


def main() -> None:
    """Append until killed, or until a newer primary has been here (StaleEpoch ends the process)."""
    ledger = Path(sys.argv[1])
    epoch, member = int(os.environ["MUSTER_EPOCH"]), os.environ["MUSTER_MEMBER"]
    guard = Guard(ledger.with_suffix(".epoch"))
    while True:
        # The lock is held over the write: a newer primary's first line can only come behind it.
        with guard.holding(epoch), ledger.open("a", encoding="utf-8") as file:
            file.write(f"{epoch} {member} {os.getpid()}\n")
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
