"""What a group's primary runs in tests: it writes into one journal all the time that it is there, with its epoch.

    python leader.py JOURNAL [stubborn] [escaped]

stubborn   it does not stop when it is asked to
escaped    a process that has left its session, and its parent, writes too
"""

import os
import signal
import sys
import time
from pathlib import Path


def main(journal: Path, *manners: str) -> None:
    if "stubborn" in manners:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "escaped" in manners and os.fork() == 0:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
    member, epoch = os.environ["MUSTER_MEMBER"], os.environ["MUSTER_EPOCH"]
    with journal.open("ab", buffering=0) as file:
        while True:
            # One write of a whole line: entries of several processes do not mix.
            file.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME)} {epoch} {member} {os.getpid()}\n".encode())
            time.sleep(0.005)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
