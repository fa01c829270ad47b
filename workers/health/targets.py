"""Whom checks may ask, by `--check-targets`: judged at the moment of connecting, for each address that a name has then.

Who registers an instance says what the controller asks, from where the controller stands. Without a limit that reads out services
behind every firewall. And a name that is harmless when it is registered may have another address when it is asked.
"""

import socket
from collections.abc import Collection, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import parse_qs, urlsplit

from muster.wire.error import NotReady

OWN: Final = "own"
ANY: Final = "any"

Ip = IPv4Address | IPv6Address
Endpoint = tuple[str, int]
"""A host and its port."""

_METADATA: Final = (ip_network("169.254.0.0/16"), ip_network("fd00:ec2::254/128"))
"""Where clouds tell a machine its secrets. Nobody's own address, whatever is registered."""


class Targets:
    """`setting` is `own`, networks with commas between them (`own` may be among them), or `any`. `protected` are endpoints that
    are never asked: the listeners of muster, its Kafka and its PostgreSQL. Raises NotReady for a setting that cannot be read.
    """

    def __init__(self, setting: str = ANY, protected: Sequence[Endpoint] = ()) -> None:
        self.setting = setting
        self.protected = tuple(protected)
        words = [word.strip() for word in setting.split(",")]
        self._any = words == [ANY]
        self.own = OWN in words
        self._networks = () if self._any else tuple(_network(word) for word in words if word != OWN)

    def refusal(self, address: str, port: int, own: Collection[str], protected: Collection[str]) -> str | None:
        """Why this address (no name) may not be asked, in one line; None: it may. `own` are the addresses of the instance, and
        `protected` those of protected endpoints with this port.
        """
        ip = _reached(address)
        for other in protected:
            if _reached(other) == ip or (_ip(other).is_unspecified and _is_local(ip)):
                return f"not allowed: {address}:{port} belongs to this controller, its Kafka or its PostgreSQL"
        if self._any or any(ip in network for network in self._networks):
            return None
        if not self.own:
            return f"not allowed: {address} is in none of the networks of `--check-targets`"
        if any(_reached(other) == ip for other in own) and not any(ip in network for network in _METADATA):
            return None
        return f"not allowed: {address} is not the address that the instance has registered (`--check-targets`)"

    def refusal_for_good(self, host: str, port: int, address: str) -> str | None:
        """Why the host can never be asked by an instance with this address; None: it can, or only its name will tell."""
        target, own = _literal(host), _literal(address)
        if target is None:
            return None
        if own is None or (_ip(own).is_loopback and _ip(target).is_loopback):
            # What a name has now says nothing of later; and `localhost` may be any address of loopback.
            own = target
        protected = [
            found for name, number in self.protected if number == port and (found := _literal(name)) is not None
        ]
        return self.refusal(target, port, (own,), protected)


def endpoints(servers: str, port: int) -> list[Endpoint]:
    """The endpoints in `HOST:PORT,HOST:PORT` or in a URL (of PostgreSQL); `port` where none is said."""
    if "://" in servers:
        parts = urlsplit(servers)
        named = parse_qs(parts.query)
        servers = ",".join(named["host"]) if "host" in named else parts.netloc.rpartition("@")[2]
        port = int(named["port"][0]) if "port" in named and named["port"][0].isdecimal() else port
    found = []
    for server in servers.split(","):
        bare = urlsplit(f"//{server.strip()}")
        # A folder is a socket of this machine, which no check can ask.
        if bare.hostname:
            found.append((bare.hostname, bare.port or port))
    return found


def _network(word: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(word, strict=False)
    except ValueError:
        raise NotReady(f"--check-targets: {word!r} is neither `own`, `any` nor a network like 10.0.0.0/8") from None


def _literal(host: str) -> str | None:
    """The address that the host is without being looked up."""
    host = host.strip("[]")
    # By RFC 6761 this name is never anything else.
    if host.rstrip(".").lower() == "localhost":
        return "127.0.0.1"
    try:
        return str(ip_address(host))
    except ValueError:
        return None


@lru_cache(maxsize=4_096)
def _ip(address: str) -> Ip:
    """The address that is reached by it."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _reached(address: str) -> Ip:
    """Who answers there: by an address that is none, this machine does."""
    ip = _ip(address)
    return ip if not ip.is_unspecified else ip_address("127.0.0.1" if ip.version == 4 else "::1")


def _is_local(ip: Ip) -> bool:
    """Whether this machine answers to the address."""
    if ip.is_loopback:
        return True
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            # Only an address of this machine can be bound; nothing is sent.
            probe.bind((str(ip), 0))
        except OSError:
            return False
    return True
