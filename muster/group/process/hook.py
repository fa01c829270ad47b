"""A hook: a command of the operator's that is run at a turn of the member, waited for, and understood by its exit code.

It is given to `/bin/sh -c`, with JSON about the group on its standard input. The end of what it puts out, on both streams, is
kept for whoever has to find out why it failed. One that takes too long, or that is not wanted any more, is asked to end, and
killed with all that it has started.
"""

import asyncio
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from muster.clock import elapsed_seconds
from muster.group.process.child import StartedProcess, told_of
from muster.group.process.shell import SHELL
from muster.group.process.tree import kill_below
from muster.group.progress import LOG
from muster.wire import printable
from muster.wire.error import MusterError

output_bytes_max: Final = 4_096
"""How much of the end of its output is kept."""
grace_seconds: Final = 1.0
"""How long it has to end by itself after it was asked to."""
_READ_BYTES: Final = 65_536
_PIPE_BYTES: Final = 1_048_576


class HookError(MusterError):
    """A hook has failed: its exit code was not 0, it took too long, or it could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A hook by its `name`; `seconds`: how long it may take. `quiet`: one that runs so often that only its failures are told."""

    name: str
    command: str
    seconds: float
    quiet: bool = False

    async def run(
        self, environment: Mapping[str, str], document: bytes, *, until: float, spared: set[int] | None = None
    ) -> str:
        """Run it to its end, if it is not `until` yet. Returns its output. Meanwhile it is `spared`. Raises HookError."""
        began = elapsed_seconds()
        if not self.quiet:
            LOG.info("%s hook started", self.name)
        try:
            child, output = self._started(environment, document, until)
        except OSError as error:
            raise HookError(f"{self.name} hook: it could not be started: {error}") from error
        safe = set[int]() if spared is None else spared
        safe.add(child.pid)
        try:
            code = await self._ended(child)
        finally:
            safe.discard(child.pid)
            text = output.close()
        if code != 0:
            said = f": {printable(text.strip())}" if text.strip() else ""
            raise HookError(f"{self.name} hook: {code if isinstance(code, str) else told_of(code)}{said}")
        if not self.quiet:
            LOG.info("%s hook done in %.2f s", self.name, elapsed_seconds() - began)
        return text

    def _started(
        self, environment: Mapping[str, str], document: bytes, until: float
    ) -> tuple[StartedProcess, "_Output"]:
        """The process, and what it puts out. Raises OSError: for a program, and for a disk that is full, or a pipe too many."""
        # A file and not a pipe: a hook that does not read it must not hold anything up.
        with tempfile.TemporaryFile() as stdin:
            stdin.write(document)
            stdin.seek(0)
            reading, writing = os.pipe()
            try:
                child = StartedProcess(
                    [SHELL, "-c", self.command], environment, until=until, stdin=stdin, output=writing
                )
            except OSError:
                os.close(reading)
                raise
            finally:
                # The child has its own; the pipe is to end with it.
                os.close(writing)
        return child, _Output(reading)

    async def _ended(self, child: StartedProcess) -> int | str:
        """Its exit code; or in words that it had to be ended."""
        try:
            await asyncio.wait([child.ended], timeout=self.seconds)
            if child.ended.done():
                return child.ended.result()
        except asyncio.CancelledError:
            # Another turn has come: nobody goes on before this hook is over, or two would work on one thing.
            await self._end(child)
            raise
        await self._end(child)
        return f"it took longer than {self.seconds:g} s"

    async def _end(self, child: StartedProcess) -> None:
        # Shielded: whoever cancels this a second time must not leave it half-ended.
        if not await asyncio.shield(child.stopped(grace_seconds)):
            kill_below(child.pid)
            await asyncio.wait([child.ended])


class _Output:
    """The end of what is written into a pipe. A process that the hook leaves behind may hold it open; nobody waits for that."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = b""
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def close(self) -> str:
        """All that has come by now: what a pipe may hold, since a process that was left behind may write on and on."""
        for _ in range(_PIPE_BYTES // _READ_BYTES):
            if not self._read():
                break
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        return self._kept.decode(errors="replace")

    def _read(self) -> bool:
        try:
            read = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not read:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._kept = (self._kept + read)[-output_bytes_max:]
        return bool(read)
