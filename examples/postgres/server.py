"""One member's PostgreSQL server: its folder, its programs, and a note of what its copy of the data is.

    FOLDER/password, pgpass     of the superuser `postgres`
    FOLDER/postgresql.conf      written by us, outside of the data: pg_basebackup and pg_rewind copy other servers' settings
    FOLDER/pg_hba.conf
    FOLDER/note.json            the note
    FOLDER/pgdata/

Started by root, PostgreSQL's programs run as another user; see `infra.local.postgres`.
"""

import ctypes
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from infra.local.postgres_programs import drop_root, find_binaries

STOP_SECONDS: Final = 8
CONNECT_SECONDS: Final = 3
QUERY_SECONDS: Final = 60
_PR_SET_PDEATHSIG: Final = 1


class HookFailed(Exception):
    """A hook could not do what it is for; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is known of the copy. `epoch`: it holds a beginning of what the primary of this epoch wrote, or all of it.

    `led`: it was written to as a primary, and has not been compared with a later one since. `parted`: it holds what the primary
    does not have, and is rewound before the next start. `torn`: a rewind has begun and not ended, so it is of no use.
    `follows`: the address of the primary. `synchronous`: the members that commits wait for; `asked`: a larger in-sync set that
    the group was asked for at a version, and whose answer is not known.
    """

    epoch: int = 0
    led: bool = False
    parted: bool = False
    torn: bool = False
    follows: str | None = None
    synchronous: tuple[str, ...] = ()
    asked: tuple[int, tuple[str, ...]] | None = None


class Server:
    """The server of `member` in `folder`, listening at `address`. Raises HookFailed where a program fails."""

    def __init__(self, folder: Path, member: str, address: str) -> None:
        self.folder = folder
        self.member = member
        self.address = address
        self.pgdata = folder / "pgdata"
        self._programs = find_binaries()

    # The note, and the settings that follow from it

    @property
    def noted(self) -> Note:
        """The note as it stands."""
        path = self.folder / "note.json"
        if not path.exists():
            return Note()
        fields = orjson.loads(path.read_bytes())
        asked = fields["asked"]
        return Note(
            **{
                **fields,
                "synchronous": tuple(fields["synchronous"]),
                "asked": None if asked is None else (asked[0], tuple(asked[1])),
            }
        )

    def note(self, **changes: Any) -> Note:
        """Change the note, and write the settings anew."""
        # A check may run while the start before it still rewinds: what one of the two notes must not undo what the other has.
        with self._alone():
            note = replace(self.noted, **changes)
            self._write("note.json", orjson.dumps(asdict(note)).decode())
            self._write("pgpass", f"*:*:*:postgres:{self._password}\n")
            self._write("pg_hba.conf", "host all all all scram-sha-256\nhost replication all all scram-sha-256\n")
            self._write("postgresql.conf", self._settings(note))
        return note

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process of the member changes the note meanwhile."""
        with (self.folder / "note.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _settings(self, note: Note) -> str:
        host, _, port = self.address.rpartition(":")
        settings = {
            "listen_addresses": host,
            "port": port,
            "unix_socket_directories": "",
            "hba_file": str(self.folder / "pg_hba.conf"),
            # What a rewind needs, and how far a standby may fall behind and still catch up.
            "wal_log_hints": "on",
            "wal_keep_size": "512MB",
            "wal_retrieve_retry_interval": "200ms",
            # A commit that does not have to wait for a lost standby any more is let go at the next word of another one.
            "wal_receiver_status_interval": "1s",
            "primary_conninfo": "" if note.follows is None else self.conninfo(note.follows),
            "synchronous_standby_names": standby_names(note.synchronous),
        }
        quoted = {name: text.replace("'", "''") for name, text in settings.items()}
        return "".join(f"{name} = '{text}'\n" for name, text in quoted.items())

    def conninfo(self, address: str, prefix: str = "") -> str:
        """How this member connects to another one. `prefix`: other than by its name alone, no commit waits for it."""
        host, _, port = address.rpartition(":")
        name = f"{prefix}{self.member}"
        return f"host={host} port={port} user=postgres application_name='{name}' passfile='{self.folder}/pgpass'"

    def reload(self) -> None:
        """Let the running server read its settings."""
        self._run("pg_ctl", "reload", "-s", "-D", self.pgdata)

    # The data

    @property
    def has_data(self) -> bool:
        """Whether there is a database."""
        return (self.pgdata / "PG_VERSION").exists()

    def init(self) -> None:
        """Make an empty database, which the first primary begins with."""
        if self.has_data:
            raise HookFailed(f"{self.pgdata}: there is a database already")
        self.note()
        fresh = self._fresh()
        options = ("--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256")
        self._run("initdb", "-D", fresh, *options, f"--pwfile={self.folder}/password")
        fresh.rename(self.pgdata)

    def copy_from(self, address: str) -> None:
        """Throw away what there is, and make a copy of the server at the address."""
        self.note()
        fresh = self._fresh()
        self._run(
            "pg_basebackup", "-D", fresh, "-X", "stream", "-c", "fast", "-w", "-d", self.conninfo(address, "copy of ")
        )
        # Whatever happens between these lines, there is a whole copy or none.
        old = self.pgdata.with_name("pgdata.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.pgdata.exists():
            self.pgdata.rename(old)
        self.note(epoch=0, led=False, parted=False, torn=False, follows=address)
        fresh.rename(self.pgdata)
        self.mark_standby()
        shutil.rmtree(old, ignore_errors=True)

    def rewind_to(self, address: str) -> None:
        """Take back what the server at the address does not have; or make a new copy, if that is not possible."""
        self.note(torn=True)
        try:
            source = f"{self.conninfo(address, 'rewind of ')} dbname=postgres"
            self._run("pg_rewind", "-D", self.pgdata, "--source-server", source)
        except HookFailed as error:
            print(f"{error}; a new copy is made")
            self.copy_from(address)
            return
        self.mark_standby()
        self.note(epoch=0, led=False, parted=False, torn=False, follows=address)

    def mark_standby(self) -> None:
        """Let the next start be one as a standby."""
        self._owned(self.pgdata / "standby.signal").touch()

    def _mend(self) -> None:
        """Have a copy that the server can start on."""
        note = self.noted
        if note.follows is not None and note.torn:
            self.copy_from(note.follows)
        elif note.follows is not None and note.parted:
            self.rewind_to(note.follows)
        elif note.torn or not self.has_data:
            raise HookFailed(f"{self.pgdata}: there is no whole database")

    # The process

    def run_in_foreground(self) -> int:
        """Run the server until it ends; SIGTERM is a fast shutdown, at which clients are disconnected. Returns its exit code."""
        self._mend()
        if self.pid is None:
            # A process that has the number of one that was killed must not be taken for it.
            (self.pgdata / "postmaster.pid").unlink(missing_ok=True)
        drop, libc, parent = drop_root(), ctypes.CDLL(None), os.getpid()

        def in_child() -> None:
            if drop is not None:
                drop()
            # Afterwards: a change of user clears it.
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        # Held back until there is a child to pass it on to; the child begins with what its parent had.
        stops = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, stops)
        command = [
            str(self._programs / "postgres"),
            "-D",
            str(self.pgdata),
            "-c",
            f"config_file={self.folder}/postgresql.conf",
        ]
        child = subprocess.Popen(command, cwd=self.folder, preexec_fn=in_child, start_new_session=True)
        for number in stops:
            signal.signal(number, lambda *_: child.send_signal(signal.SIGINT))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        code = child.wait()
        return code if code >= 0 else 128 - code

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        try:
            pid = int((self.pgdata / "postmaster.pid").read_text().split("\n", 1)[0])
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.pgdata) in line else None

    def stop(self) -> None:
        """Stop the server, if it runs: fast, and by force if that takes too long."""
        if self.pid is None:
            return
        try:
            self._run("pg_ctl", "stop", "-s", "-D", self.pgdata, "-m", "fast", "-t", str(STOP_SECONDS))
        except HookFailed:
            if self.pid is not None:
                self._run("pg_ctl", "stop", "-s", "-D", self.pgdata, "-m", "immediate", "-t", str(STOP_SECONDS))

    def ask(self, query: str, address: str | None = None) -> list[tuple[str, ...]]:
        """The rows that this server answers with, or the one at the address, as psql writes them: t and f, nothing for NULL.

        By psql and not by a driver, since a hook begins anew each time: to load one took longer than all that a hook does. And
        a connection that is new begins with the settings that its server has read.
        """
        place = (
            f"{self.conninfo(address or self.address, 'hook of ')} dbname=postgres sslmode=disable gssencmode=disable"
        )
        told = self._run(
            *("psql", "-XqAtw", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", query),
            f"{place} connect_timeout={CONNECT_SECONDS}",
            seconds=QUERY_SECONDS,
        )
        return [tuple(line.split("\t")) for line in told.splitlines()]

    def value(self, query: str, address: str | None = None) -> str:
        """The one value that it answers with."""
        [(value,)] = self.ask(query, address)
        return value

    # How programs are run, and files written

    def _run(self, program: str, *arguments: str | Path, seconds: float | None = None) -> str:
        """What the program has written to its output."""
        try:
            ended = subprocess.run(
                [self._programs / program, *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                preexec_fn=drop_root(),
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise HookFailed(f"{program}: not done in {seconds:g} s") from error
        if ended.returncode != 0:
            raise HookFailed(f"{program}: exit code {ended.returncode}: {ended.stderr.strip()[-1500:]}")
        return ended.stdout

    def _fresh(self) -> Path:
        fresh = self.pgdata.with_name("pgdata.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        return self._owned(fresh)

    def _owned(self, path: Path) -> Path:
        """The path as the user's that PostgreSQL runs as."""
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            if not path.exists():
                path.touch(mode=0o600)
            os.chown(path, user.pw_uid, user.pw_gid)
        return path

    def check_password(self) -> None:
        """Raises HookFailed if nobody has said what the superuser's password is."""
        if not self._password:
            raise HookFailed(f"{self.folder}/password is empty")

    @property
    def _password(self) -> str:
        path = self.folder / "password"
        if not path.is_file():
            raise HookFailed(
                f"{path} is not there: write the superuser's password into it, the same one at all members"
            )
        return path.read_text().strip()

    def _write(self, name: str, text: str) -> None:
        """Write the file so that it is there as a whole, or as it was, whatever happens."""
        aside = self.folder / f"{name}.new"
        aside.touch(mode=0o600)
        with aside.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.folder / name)


def standby_names(members: tuple[str, ...]) -> str:
    """The setting with which a commit waits for all of these; none: for nobody."""
    quoted = ", ".join(f'"{member}"' for member in sorted(members))
    return f"FIRST {len(members)} ({quoted})" if members else ""
