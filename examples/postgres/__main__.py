"""What `muster group run` calls for a member that is a PostgreSQL server, each with the member's folder and address.

    python -m examples.postgres init     FOLDER --address HOST:PORT     once, for the first member: an empty database
    python -m examples.postgres start    FOLDER --address HOST:PORT     the command of the runner (--role always)
    python -m examples.postgres promote  FOLDER --address HOST:PORT
    python -m examples.postgres demote   FOLDER --address HOST:PORT
    python -m examples.postgres check    FOLDER --address HOST:PORT [--synchronous]
    python -m examples.postgres position FOLDER --address HOST:PORT
    python -m examples.postgres member   FOLDER --address HOST:PORT [--synchronous] [--group db] [--url URL]   `muster group run`
                                                with all these, for the member that has the name of the folder
    python -m examples.postgres accept   FOLDER --address HOST:PORT --epoch N   an operator: this copy may lead after epoch N

FOLDER/password is the password of the superuser `postgres`, the same at all members. FOLDER/pgdata is PostgreSQL's.
"""

import argparse
import os
import sys
from pathlib import Path

import orjson

from examples.postgres import hooks
from examples.postgres.member import runner
from examples.postgres.server import HookFailed, Server

HOOKS = ("promote", "demote", "check")
"""Those that are told on standard input how the group stands."""


def main() -> int:
    """Do what is asked. Exit code 0: done; else the reason stands on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*HOOKS, "init", "start", "position", "accept", "member"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", required=True, metavar="HOST:PORT", help="where the server listens")
    parser.add_argument("--synchronous", action="store_true", help="commits wait for the members of the in-sync set")
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--group", default="db")
    parser.add_argument(
        "--url", default=os.environ.get("MUSTER_URL", "http://127.0.0.1:8740"), help="of the controllers"
    )
    chosen = parser.parse_args()
    try:
        server = Server(chosen.folder.absolute(), os.environ.get("MUSTER_MEMBER", chosen.folder.name), chosen.address)
        server.check_password()
        match chosen.what:
            case "init":
                server.init()
            case "start":
                return server.run_in_foreground()
            case "accept":
                server.note(epoch=chosen.epoch)
            case "member":
                arguments = runner(chosen.group, server, chosen.url, synchronous=chosen.synchronous)
                os.execv(sys.executable, [sys.executable, *arguments])
            case "position":
                print(hooks.position(server))
            case what:
                told = hooks.Told.read(orjson.loads(sys.stdin.buffer.read()))
                hooks.run(what, server, told, synchronous=chosen.synchronous)
    except HookFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
