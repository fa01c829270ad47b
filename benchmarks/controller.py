"""A controller as a process of its own, as users start it: `muster up`."""

import http.client
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.process import STOP_SECONDS_MAX, Usage, python, running, usage
from infra.local.child import free_port

START_SECONDS_MAX: Final = 120.0
POLL_SECONDS: Final = 0.02
HOST: Final = "127.0.0.1"
JSON: Final = {"Content-Type": "application/json"}
_AWAY: Final = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Controller:
    """A started controller."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    spawned_at: float

    @property
    def usage(self) -> Usage:
        """What it has used so far."""
        return usage(self.process.pid)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and body of one request over a connection of its own. Raises OSError when nobody answers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request(method, path, None if body is None else orjson.dumps(body), JSON)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """The body of `/v1/status`."""
        told: dict[str, Any] = orjson.loads(self.ask("GET", "/v1/status")[1])
        return told

    def reigned(self) -> set[int]:
        """The partitions that it writes."""
        return {part["partition"] for part in self.status()["partitions"] if part["state"] == "reigning"}

    def wait_until_reigning(self) -> None:
        """Wait until it writes every partition."""
        self.wait(lambda: len(self.reigned()) == len(self.status()["partitions"]))

    def wait_for(self, path: str) -> float:
        """Wait until the path is answered with 200; the seconds since the process was spawned."""
        return self.wait(lambda: self.ask("GET", path)[0] == 200) - self.spawned_at

    def wait(self, reached: Any) -> float:
        """The instant (monotonic, seconds) at which it was reached; the controller need not answer yet."""
        while True:
            try:
                if reached():
                    return time.monotonic()
            except _AWAY:
                pass
            if self.process.poll() is not None or time.monotonic() - self.spawned_at > START_SECONDS_MAX:
                raise RuntimeError(f"the controller is not ready; its log ends so:\n{self.log.read_text()[-2000:]}")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait for the orderly end."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_SECONDS_MAX)


@contextmanager
def controller(data: Path, *options: str, port: int | None = None) -> Iterator[Controller]:
    """A controller that was just spawned on the folder, at the port or at a free one; killed at the end if it still runs."""
    data.mkdir(parents=True, exist_ok=True)
    port, log = port or free_port(), data.parent / f"{data.name}.log"
    began = time.monotonic()
    command = python("muster", "up", "--data", data, "--http", f"{HOST}:{port}", *options)
    with running(command, log) as process:
        yield Controller(process, port, log, began)
