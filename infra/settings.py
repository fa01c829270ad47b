"""The settings of a controller, as given at its start."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from typing import Final
from urllib.parse import urlsplit

from infra import option
from infra.limits import ClientLimits
from muster.wire.error import NotReady

_CHECKS: Final = {
    "kafka": option.kafka_address,
    "postgres": option.postgres_address,
    "prefix": option.topic_prefix,
    "cluster": option.cluster_name,
    "advertise": option.web_address,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A controller's settings.

    `data` is its folder; `http` is HOST:PORT (port 0: a free one); `kafka` HOST:PORT or `local`, None: the embedded
    engine; `postgres` a DSN or `local`, None: no tables; `partitions` of a new log (1 embedded, 8 on Kafka). `advertise`
    is the URL at which other controllers reach this one; None: where it listens. `check_interval_min`, in seconds, is how often
    a check that is registered anew may ask at most; `check_targets` is whom checks may ask: `own`, networks, or `any`.
    `mass_flip_seconds`: so long those go on serving whose checks fail with those of most of their service; 0: they do not.
    `limits` are those of clients over HTTP. `cluster_key` is the file with the key that all controllers on one Kafka share;
    None: the data folder's own, which is made.
    """

    data: Path = Path("data")
    http: str = "127.0.0.1:8740"
    kafka: str | None = None
    postgres: str | None = None
    partitions: int | None = None
    cluster: str = "default"
    prefix: str = "muster"
    insecure: bool = False
    log_json: bool = False
    advertise: str | None = None
    cluster_key: Path | None = None
    check_interval_min: float = 0.1
    check_targets: str = "any"
    mass_flip_seconds: float = 30.0
    limits: ClientLimits = field(default_factory=ClientLimits)
    controller: str = field(default_factory=gethostname)

    @property
    def host(self) -> str:
        """The host to listen on."""
        # An IPv6 address has colons itself, and so stands in brackets.
        return self.http.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port to listen on; 0: a free one. Raises NotReady when it is none."""
        port = self.http.rpartition(":")[2]
        if not port.isdecimal() or int(port) > 65535:
            raise NotReady(f"--http {self.http!r} is not HOST:PORT")
        return int(port)

    @property
    def own_hosts(self) -> frozenset[str] | None:
        """By what names clients may call a controller on loopback; None: it listens for others, who may use any name."""
        if not _is_loopback(self.host):
            return None
        advertised = urlsplit(self.advertise).hostname if self.advertise else None
        return frozenset(name.lower() for name in (self.host, advertised) if name)

    def check(self) -> None:
        """Raises NotReady when the settings must not be run."""
        _ = self.port
        check_loopback("--http", self.http, insecure=self.insecure)
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            try:
                _ = value is None or check(value)
            except ValueError as error:
                raise NotReady(f"--{name}: {error}") from None


def check_loopback(option: str, listen: str, *, insecure: bool) -> None:
    """Raises NotReady when the process would listen (HOST:PORT) beyond loopback, and `insecure` does not allow it."""
    if not insecure and not _is_loopback(listen.rpartition(":")[0].strip("[]")):
        raise NotReady(
            f"{option} {listen} is not loopback, and muster has no authentication yet; "
            "pass --insecure if the network is trusted"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
