"""What is refused before a request is looked at: requests that a browser sends for somebody else's page.

A page that an operator has open can send requests to 127.0.0.1, from behind every firewall. But a browser says for which page
it asks (`Origin`, `Sec-Fetch-Site`); without asking first, which gets no permission here, it sends no JSON; and a page whose own
name was made to point to 127.0.0.1 (DNS rebinding) names itself as the `Host`. See OWASP's "Cross-Site Request Forgery
Prevention" and W3C's "Fetch Metadata Request Headers". Other clients send none of these, and are not concerned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from muster.wire.error import WrongCluster
from workers.http.exchange import Reply, problem, problem_of

_ONCE: Final = frozenset(
    (
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"if-match",
        b"muster-actor",
        b"muster-check",
        b"muster-cluster",
        b"muster-peer",
        b"muster-reason",
        b"muster-token",
        b"origin",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"transfer-encoding",
    )
)
"""Headers that have one meaning. Of two, proxies and servers take different ones: both are refused."""

_OWN_SITES: Final = frozenset((b"none", b"same-origin"))
"""`Sec-Fetch-Site` of what a user typed, and of a page of this very controller."""


@dataclass(frozen=True, slots=True)
class Doors:
    """`hosts` are the names under which a controller on loopback may be asked, besides those of loopback; None: any name will
    do, since the controller listens for others too. `cluster` is the controller's; None: it is not looked at.
    """

    hosts: frozenset[str] | None = None
    cluster: str | None = None

    def refusal(self, method: str, headers: Sequence[tuple[bytes, bytes]], version: str | None = None) -> Reply | None:
        """What is answered to a request that may not come in; None: it may. The names of headers are in lower case; `version`
        is that of HTTP, where it is known.
        """
        said = dict(headers)
        if len(said) != len(headers):
            repeated = _repeated([name for name, _ in headers if name in _ONCE])
            if repeated is not None:
                return repeated
        if b"muster-check" in said:
            # Whoever registers an instance says what is asked here: as a check it would be asked from a machine that is trusted.
            return problem({"name": "OfACheck", "status": 403, "detail": "no check may ask a controller of muster"})
        host = said.get(b"host", b"")
        if version is not None and (version != "1.1" or not host):
            odd = _odd(version, said)
            if odd is not None:
                return odd
        if self.hosts is not None and not _is_ours(host, self.hosts):
            shown = host.decode("latin-1")[:200]
            detail = f"{shown!r} is not a name of this controller, which listens on loopback; ask http://127.0.0.1"
            return problem({"name": "ForeignHost", "status": 421, "detail": detail})
        # Ports are used again: a script that was written for another controller must not write into this one.
        if b"muster-cluster" in said and self.cluster is not None and said[b"muster-cluster"] != self.cluster.encode():
            return _of_another_cluster(said[b"muster-cluster"], self.cluster)
        if b"origin" in said or b"sec-fetch-site" in said:
            foreign = _foreign(method, said, host)
            if foreign is not None:
                return foreign
        if said.get(b"content-length") != b"0" and _has_body(said) and not _is_json(said.get(b"content-type", b"")):
            detail = "a body here is JSON: send it with `Content-Type: application/json`"
            return problem({"name": "NotJson", "status": 415, "detail": detail})
        return None


def _repeated(names: list[bytes]) -> Reply | None:
    name = next((name.decode() for name in names if names.count(name) > 1), None)
    if name is None:
        return None
    detail = f"{name}: the header stands there more than once"
    return problem({"name": "RepeatedHeader", "status": 400, "detail": detail, "field": name})


def _of_another_cluster(meant: bytes, cluster: str) -> Reply:
    shown = meant.decode(errors="backslashreplace")[:200]
    return problem_of(
        WrongCluster(f"this controller is of the cluster {cluster!r}, and {shown!r} is meant", cluster=cluster)
    )


def _odd(version: str, said: dict[bytes, bytes]) -> Reply | None:
    """What HTTP itself forbids: other versions than 1.0 and 1.1, 1.1 without a host, 1.0 with what only 1.1 has."""
    if version not in ("1.0", "1.1"):
        detail = f"HTTP/{version} is not spoken here, only HTTP/1.0 and HTTP/1.1"
        return problem({"name": "UnknownVersion", "status": 505, "detail": detail})
    if version == "1.1" and b"host" not in said:
        return problem({"name": "MissingHost", "status": 400, "detail": "a request of HTTP/1.1 names its `Host`"})
    if version == "1.0" and b"transfer-encoding" in said:
        detail = "HTTP/1.0 has no `Transfer-Encoding`: send a `Content-Length`"
        return problem({"name": "MalformedRequest", "status": 400, "detail": detail})
    return None


@lru_cache(maxsize=256)
def _is_ours(host: bytes, hosts: frozenset[str]) -> bool:
    try:
        name = urlsplit(f"//{host.decode('ascii')}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name in hosts:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _foreign(method: str, said: dict[bytes, bytes], host: bytes) -> Reply | None:
    origin, site = said.get(b"origin"), said.get(b"sec-fetch-site", b"none")
    # A link to a controller in somebody's runbook may be followed: it changes nothing, and its page cannot read the answer.
    followed = method == "GET" and origin is None and said.get(b"sec-fetch-mode") == b"navigate"
    own = origin is None or origin.lower() in (b"http://" + host.lower(), b"https://" + host.lower())
    if own and (site in _OWN_SITES or followed):
        return None
    whose = "another site" if origin is None else repr(origin.decode("latin-1")[:200])
    detail = f"the request comes from a page of {whose}: pages of others may not use this controller"
    return problem({"name": "CrossSite", "status": 403, "detail": detail})


def _has_body(said: dict[bytes, bytes]) -> bool:
    return said.get(b"content-length", b"0").strip(b"0") != b"" or b"transfer-encoding" in said


def _is_json(media: bytes) -> bool:
    return media == b"application/json" or media.partition(b";")[0].strip().lower() == b"application/json"
