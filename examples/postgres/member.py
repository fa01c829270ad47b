"""How a member is run: `muster group run` with the hooks of a PostgreSQL server."""

import shlex
import sys
from typing import Final

from examples.postgres.server import Server

HOOK_SECONDS: Final = 600
"""Of the demote hook, which takes a whole copy of the primary if there is none yet."""


def runner(group: str, server: Server, url: str, *, synchronous: bool) -> list[str]:
    """The arguments for Python that run the server's member. `synchronous`: the primary's check keeps the in-sync set."""
    where = (str(server.folder), "--address", server.address)

    def hook(what: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "examples.postgres", what, *where, *options]

    check = hook("check", *(("--synchronous",) if synchronous else ()))
    return [
        *("-m", "muster", "group", "run", group, "--as", server.member, "--address", server.address),
        *("--url", url, "--role", "always"),
        *("--hook-timeout", str(HOOK_SECONDS)),
        *("--promote", shlex.join(hook("promote")), "--demote", shlex.join(hook("demote"))),
        *("--check", shlex.join(check), "--position", shlex.join(hook("position"))),
        *("--", *hook("start")),
    ]
