"""Real proxies in the path of the calls, each alone, with the balancing that it is known for and everything else as it comes.

nginx       one worker, HTTP/1.1 and kept connections to the instances, which are not its defaults but what everybody sets
HAProxy     as many threads as there are cores
Envoy       as many workers as there are cores; no outlier detection, no retries, and limits of calls out of the way
"""

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.bench import Bench
from benchmarks.controller import HOST
from benchmarks.process import running
from benchmarks.rivals.programs import Program, libraries, program
from infra.local.child import free_port

START_SECONDS_MAX: Final = 30.0
_LOOK_SECONDS: Final = 0.02
_CALLS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Way:
    """A proxy with one of its ways to balance."""

    program: Program
    balances: str

    @property
    def name(self) -> str:
        """As it stands in a row."""
        return f"{self.program} {self.balances}"


NGINX_TURNS: Final = Way("nginx", "round_robin")
HAPROXY_TURNS: Final = Way("haproxy", "roundrobin")
ENVOY_TURNS: Final = Way("envoy", "ROUND_ROBIN")
ENVOY_LEAST: Final = Way("envoy", "LEAST_REQUEST")
TURNS: Final = (NGINX_TURNS, HAPROXY_TURNS, ENVOY_TURNS)
"""What each does when nobody has said how."""
BEST: Final = (Way("nginx", "least_conn"), Way("haproxy", "leastconn"), Way("haproxy", "random(2)"), ENVOY_LEAST)
"""What each is best at with instances that are not alike."""


def there(ways: Sequence[Way], *, fetch: bool = True) -> list[Way]:
    """Those whose program can be had; of the others it is told why not."""
    missing: dict[Program, str] = {}
    for name in {way.program for way in ways}:
        try:
            program(name, fetch=fetch)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            missing[name] = str(error)
            print(f"{name} is left out: {error}", file=sys.stderr)
    return [way for way in ways if way.program not in missing]


@contextmanager
def proxied(bench: Bench, way: Way, ports: Sequence[int]) -> Iterator[str]:
    """The proxy in front of the instances at these ports, for the length of the block; its URL."""
    folder, port = bench.folder / f"proxy-{time.monotonic_ns()}", free_port()
    folder.mkdir()
    write = {"nginx": _nginx, "haproxy": _haproxy, "envoy": _envoy}[way.program]
    command = [program(way.program), *write(folder, way.balances, port, ports)]
    log = folder / "log"
    with log.open("ab") as out, running_with_libraries(command, log, out) as process:
        _wait(process, port, log)
        yield f"http://{HOST}:{port}"


@contextmanager
def running_with_libraries(command: list[str], log: Path, out: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The process with the libraries that were unpacked beside it."""
    found = libraries().get("LD_LIBRARY_PATH", "")
    with running(["env", f"LD_LIBRARY_PATH={found}", *command], log, stdout=out) as process:
        yield process


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until an instance has answered through it."""
    ends_at = time.monotonic() + START_SECONDS_MAX
    while True:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/ready")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            if process.poll() is not None or time.monotonic() > ends_at:
                raise RuntimeError(f"the proxy has not started: {log.read_text()[-2000:]}") from None
            time.sleep(_LOOK_SECONDS)
        else:
            return
        finally:
            connection.close()


def _nginx(folder: Path, balances: str, port: int, ports: Sequence[int]) -> list[str]:
    way = "" if balances == "round_robin" else f"{balances};"
    servers = " ".join(f"server {HOST}:{each};" for each in ports)
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log; events {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; keepalive_requests 1000000; {temporary}\n"
        f"upstream users {{ zone users 64k; {way} {servers} keepalive 256; }}\n"
        f"server {{ listen {HOST}:{port}; location / {{ proxy_pass http://users; proxy_http_version 1.1;"
        ' proxy_set_header Connection ""; } } }\n'
    )
    return ["-c", str(config), "-p", str(folder), "-e", f"{folder}/log"]


def _haproxy(folder: Path, balances: str, port: int, ports: Sequence[int]) -> list[str]:
    servers = "\n".join(f"    server i{number} {HOST}:{each}" for number, each in enumerate(ports))
    config = folder / "haproxy.cfg"
    config.write_text(
        "defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n"
        f"frontend calls\n    bind {HOST}:{port}\n    default_backend users\n"
        f"backend users\n    balance {balances}\n{servers}\n"
    )
    return ["-db", "-f", str(config)]


def _envoy(folder: Path, balances: str, port: int, ports: Sequence[int]) -> list[str]:
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _CALLS_MAX)
    cluster = {
        "name": "users",
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": balances,
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": "users",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(each)}} for each in ports]}],
        },
    }
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "calls",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "users"}}]}
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "calls", "address": _address(port), "filter_chains": [{"filters": filters}]}
    config = folder / "envoy.json"
    config.write_bytes(orjson.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    return ["-c", str(config), "--log-level", "error", "--use-dynamic-base-id"]


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}
