"""A real PostgreSQL from a package: one server on loopback, for `--postgres local` and for tests.

    folder/password   of the superuser `postgres`, made once
    folder/pgdata/    PostgreSQL's data: UTF-8, fsync on
    folder/server.log

PostgreSQL refuses to run as root. Started by root, it runs as `nobody` with one right of root's: to read and to
pass through folders that are closed to others. So no folder's mode is changed and no user is added: see
`infra.local.postgres_programs`.
"""

import asyncio
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from infra.local.child import free_port
from infra.local.failure import LocalServerFailed
from infra.local.postgres_programs import UNPRIVILEGED, drop_root, find_binaries
from infra.local.server import LocalServer


class LocalPostgres(LocalServer):
    """A server over the folder `data`; `port` None takes a free one, kept for all starts of this object.

    `config` are server parameters (`{"max_connections": "200"}`), which override ours.
    """

    name = "PostgreSQL"
    # "Fast": clients are disconnected.
    stop_signal = signal.SIGINT

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        startup_timeout_seconds: float = 60,
        config: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data)
        self._pgdata = self._child.folder / "pgdata"
        self._password_file = self._child.folder / "password"
        self._port = port or free_port()
        self._startup_timeout_seconds = startup_timeout_seconds
        self._config = dict(config or {})

    @property
    def dsn(self) -> str:
        """`postgresql://postgres:<password>@127.0.0.1:<port>/postgres?sslmode=disable`, once it was started."""
        password = self._password_file.read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{self._port}/postgres?sslmode=disable"

    async def start(self) -> None:
        """Start the server on whatever `data` holds, and return when it answers: 0.3 s, the first time 2.

        Raises LocalServerUnavailable when the package cannot be had, else LocalServerFailed. Does nothing if
        it runs.
        """
        if self.pid is not None:
            return
        binaries = await asyncio.to_thread(find_binaries)
        with self._child.folder_held():
            if not (self._pgdata / "PG_VERSION").exists():
                await asyncio.to_thread(self._initdb, binaries)
            self._check_password()
            # Our lock proves that no server lives; the pid that a crash left may be another process's by now.
            (self._pgdata / "postmaster.pid").unlink(missing_ok=True)
            settings = [word for key, value in self._parameters().items() for word in ("-c", f"{key}={value}")]
            self._child.spawn([binaries / "postgres", "-D", self._pgdata, *settings], prepare=drop_root())
        await self._child.ready(self._ask, (OSError, asyncpg.PostgresError), self._startup_timeout_seconds)

    def _parameters(self) -> dict[str, str]:
        return {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "on",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._config,
        }

    def _initdb(self, binaries: Path) -> None:
        """Make the data aside and move it: an interrupted initdb leaves no half of a database."""
        fresh = self._child.folder / "pgdata.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(18))
        if os.geteuid() == 0:
            nobody = pwd.getpwnam(UNPRIVILEGED)
            for path in (fresh, self._password_file):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        with self._child.log.open("ab") as log:
            ended = subprocess.run(
                [
                    *(
                        binaries / "initdb",
                        "-D",
                        fresh,
                        "--username=postgres",
                        "--encoding=UTF8",
                        "--locale=C",
                    ),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    *("--auth=scram-sha-256", f"--pwfile={self._password_file}"),
                ],
                cwd=self._child.folder,
                stdout=log,
                stderr=log,
                preexec_fn=drop_root(),
                check=False,
            )
        if ended.returncode:
            raise self._child.failure(f"could not be set up (initdb: exit code {ended.returncode})")
        fresh.rename(self._pgdata)

    def _check_password(self) -> None:
        # Without it the server would start, and nobody could ever connect.
        if not re.fullmatch(rb"[A-Za-z0-9_-]+", self._password_file.read_bytes()):
            raise LocalServerFailed(
                f"PostgreSQL: {self._password_file} does not hold the password that was made for it"
            )

    async def _ask(self) -> None:
        try:
            connection = await asyncpg.connect(self.dsn, timeout=5)
        except asyncpg.InvalidPasswordError as error:
            raise self._child.failure(f"does not take the password in {self._password_file}") from error
        await connection.close()
