"""Three PostgreSQL servers under Patroni on this machine, with one etcd."""

import http.client
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson

from benchmarks.controller import HOST
from benchmarks.process import family, running
from infra.local.child import free_port
from infra.local.postgres_programs import drop_root, find_binaries

CACHE: Final = Path.home() / ".cache/muster/patroni"
PACKAGE: Final = "patroni[etcd3,psycopg3]==4.1.5"
MEMBERS: Final = ("p1", "p2", "p3")
WAIT_SECONDS_MAX: Final = 180.0
PAUSE_SECONDS: Final = 0.02
_LOOK_SECONDS: Final = 0.1
CUT_OFF: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def program() -> str:
    """The path of Patroni, which is installed once, into an environment of its own."""
    installed = CACHE / "venv/bin/patroni"
    if not installed.exists():
        subprocess.run([sys.executable, "-m", "venv", CACHE / "venv"], check=True, timeout=120)
        subprocess.run([CACHE / "venv/bin/pip", "install", "--quiet", PACKAGE], check=True, timeout=600)
    return str(installed)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a member listens."""

    postgres: int
    rest: int


class PatroniCluster:
    """The processes by member. `settings` are Patroni's own, of the cluster."""

    def __init__(self, folder: Path, etcd: int, settings: Mapping[str, int], stack: ExitStack) -> None:
        self.folder, self._etcd, self._settings, self._stack = folder, etcd, settings, stack
        self.ports = {member: Ports(free_port(), free_port()) for member in MEMBERS}
        self._password = secrets.token_urlsafe(12)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def open(self) -> None:
        """Start all; returns when one leads and two follow."""
        for member in MEMBERS:
            (self.folder / member).mkdir(mode=0o777)
            (self.folder / member).chmod(0o777)
            self.run(member)
        self.whole()

    def run(self, member: str) -> None:
        """Start the member's Patroni."""
        config = self.folder / f"{member}.yml"
        # JSON is YAML.
        config.write_bytes(orjson.dumps(self._config(member)))
        # Programs that it calls tell of themselves there.
        quiet = {"stdout": subprocess.DEVNULL, "preexec_fn": drop_root()}
        started = running([program(), str(config)], self.folder / f"{member}.log", **quiet)
        self._processes[member] = self._stack.enter_context(started)

    def _config(self, member: str) -> dict[str, Any]:
        own, folder = self.ports[member], self.folder / member
        rest, listens = f"{HOST}:{own.rest}", f"{HOST}:{own.postgres}"
        users = {
            name: {"username": user, "password": self._password}
            for name, user in (("superuser", "postgres"), ("replication", "replicator"))
        }
        return {
            "scope": "db",
            "name": member,
            "restapi": {"listen": rest, "connect_address": rest},
            "etcd3": {"host": f"{HOST}:{self._etcd}"},
            "bootstrap": {
                "dcs": {**self._settings, "postgresql": {"use_pg_rewind": True}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": listens,
                "connect_address": listens,
                "bin_dir": str(find_binaries()),
                "data_dir": str(folder / "pgdata"),
                "pgpass": str(folder / "pgpass"),
                "authentication": users,
                "parameters": {"unix_socket_directories": ""},
                "pg_hba": ["host all all all scram-sha-256", "host replication all all scram-sha-256"],
            },
        }

    def whole(self) -> str:
        """Wait until one leads and both others stream from it; who leads."""

        def leader() -> str | None:
            found = {member["name"]: (member["role"], member["state"]) for member in self._told()}
            follow = [one for one in found.values() if one[0] == "replica" and one[1] == "streaming"]
            leads = [name for name, one in found.items() if one == ("leader", "running")]
            return leads[0] if len(follow) == len(MEMBERS) - 1 and leads else None

        return within(leader, f"the cluster is not whole: {self._told()}; {self._last_words()}")

    def _told(self) -> list[dict[str, Any]]:
        """The members, as the first one that answers tells of them."""
        for own in self.ports.values():
            connection = http.client.HTTPConnection(HOST, own.rest, timeout=5)
            with suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/cluster")
                members: list[dict[str, Any]] = orjson.loads(connection.getresponse().read())["members"]
                return members
            connection.close()
        return []

    def kill(self, member: str, *, patroni_too: bool) -> float:
        """SIGKILL to the member's PostgreSQL, or to its Patroni as well; when that was."""
        pids = list(family(self._processes[member].pid))
        # Without Patroni the server would be nobody's child: PostgreSQL leaves its parent's tree by itself.
        server = int((self.folder / member / "pgdata/postmaster.pid").read_text().split("\n", 1)[0])
        killed_at = time.monotonic()
        kill_all([*(pids if patroni_too else ()), *family(server)])
        return killed_at

    def close(self) -> None:
        """Kill what Patroni leaves behind when it is killed: the servers."""
        for member in MEMBERS:
            with suppress(OSError, ValueError):
                server = int((self.folder / member / "pgdata/postmaster.pid").read_text().split("\n", 1)[0])
                # The number may be another process's by now.
                if str(self.folder / member).encode() in Path(f"/proc/{server}/cmdline").read_bytes():
                    kill_all(list(family(server)))

    async def connect(self) -> tuple[asyncpg.Connection, int]:
        """A connection to who takes writes, and its port. Raises what is in CUT_OFF."""
        for own in self.ports.values():
            with suppress(*CUT_OFF):
                connection = await asyncpg.connect(
                    host=HOST, port=own.postgres, user="postgres", password=self._password, ssl=False, timeout=2.0
                )
                if not await connection.fetchval("SELECT pg_is_in_recovery()"):
                    return connection, own.postgres
                await connection.close()
        raise OSError("nobody takes writes")

    def _last_words(self) -> str:
        logs = {member: self.folder / f"{member}.log" for member in MEMBERS}
        return "; ".join(f"{member} says: …{log.read_text()[-700:]}" for member, log in logs.items() if log.exists())


def kill_all(pids: Sequence[int]) -> None:
    """SIGKILL to all of them; some may have ended with those before."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def patroni_cluster(folder: Path, etcd: int, settings: Mapping[str, int]) -> Iterator[PatroniCluster]:
    """The processes, as long as the block runs."""
    cluster = PatroniCluster(folder, etcd, settings, stack := ExitStack())
    try:
        # The servers are killed behind their Patronis, which would start them anew.
        with stack:
            cluster.open()
            yield cluster
    finally:
        cluster.close()


def within(asked: Callable[[], str | None], why: str) -> str:
    """What is asked for, as soon as it is not None."""
    ends_at = time.monotonic() + WAIT_SECONDS_MAX
    while (found := asked()) is None:
        if time.monotonic() > ends_at:
            raise RuntimeError(why)
        time.sleep(_LOOK_SECONDS)
    return found
