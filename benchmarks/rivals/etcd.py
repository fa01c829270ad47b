"""etcd on this machine, one member, which waits for its disk before it answers: puts, and how soon a watcher hears of one.

The program is the one on the path, or Debian's, fetched once into the cache folder and unpacked there. It listens on
loopback only.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.process import job, running
from benchmarks.table import Row
from infra.local.child import free_port

CACHE: Final = Path.home() / ".cache/muster/etcd"
START_SECONDS_MAX: Final = 30.0
PUTS: Final = {1: 3_000, 8: 15_000}
WATCHED_PUTS: Final = 1_000


def run(bench: Bench) -> Iterator[Row]:
    """A put's latency with one client, puts per second with eight, and from before a put until a watcher has it."""
    runs = [_measured(bench) for _ in range(bench.runs)]
    for title, figure, unit in (
        ("a put, 1 client", "p50_ms", "ms"),
        ("a put, 1 client", "p99_ms", "ms"),
        ("puts, 8 in flight", "per_second", "/s"),
        ("a put → a watcher, idle", "watch_p50_ms", "ms"),
        ("a put → a watcher, idle", "watch_p99_ms", "ms"),
    ):
        name = figure.removeprefix("watch_").removesuffix("_ms").replace("_", " ")
        yield Row("etcd", title, "etcd", name, unit, [found[figure] for found in runs])


def _measured(bench: Bench) -> dict[str, float]:
    with server(bench.folder) as port:
        one = job("benchmarks.load.etcd", port, "put", 1, bench.size(PUTS[1]))
        eight = job("benchmarks.load.etcd", port, "put", 8, bench.size(PUTS[8]))
        watch = job("benchmarks.load.etcd", port, "watch", 1, bench.size(WATCHED_PUTS))
    heard = {f"watch_{name}": value for name, value in watch.items()}
    return {**one, **heard, "per_second": eight["per_second"]}


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """etcd on an empty folder, for the length of the block; its port."""
    port, peers = free_port(), free_port()
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    with tempfile.TemporaryDirectory(prefix="etcd-", dir=folder) as data:
        command = [program(), "--data-dir", data, "--log-level", "error"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        with running([*command, "--initial-cluster", f"default={peer}"], folder / "etcd.log"):
            job("benchmarks.load.etcd", port, "put", 1, 200, START_SECONDS_MAX)
            yield port


def program() -> str:
    """The path of etcd."""
    unpacked = CACHE / "usr/bin/etcd"
    if found := shutil.which("etcd"):
        return found
    if not unpacked.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", "etcd-server"], cwd=CACHE, check=True, timeout=300)
        [package] = CACHE.glob("etcd-server_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, CACHE], check=True, timeout=60)
    return str(unpacked)
