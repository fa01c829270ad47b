"""What a check must keep to that is registered anew: limits, and what can never be found healthy.

Judged when a registration is decided, and only of checks that the instance does not have yet. What stands in the log already was
taken under the limits of its time: it stays readable, may be registered again as it is, and is run within today's bounds.
"""

import re
import string
from collections.abc import Collection, Iterator
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import urlsplit

from muster.wire.error import InvalidInstance
from muster.wire.registry.check import HttpCheck, HttpsCheck, TcpCheck, TtlCheck, timeout_seconds_max
from muster.wire.registry.spec import Spec, heartbeats_topic_seconds_min

headers_max: Final = 32
header_bytes_max: Final = 4_096
_host_chars_max: Final = 253
_label_chars_max: Final = 63

_TOKEN: Final = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
_HOST: Final = frozenset(string.ascii_letters + string.digits + "-._~")
_BRACKETS: Final = re.compile(r"\[[^\[\]]*:[^\[\]]*\](:\d*)?")
_HOST_HEADER: Final = _HOST | frozenset(":[]")
_BODYLESS: Final = frozenset((204, 205, 304))


def admit(
    checks: Collection[HttpCheck | TcpCheck | TtlCheck], known: Collection[HttpCheck | TcpCheck | TtlCheck]
) -> None:
    """Raises InvalidInstance for the first of the checks that may not be registered; the `known` ones are taken as they are."""
    for number, check in enumerate(checks):
        # A ttl check asks nobody, and all its values were judged by their types.
        if isinstance(check, TtlCheck) or check in known:
            continue
        for field, reason in _faults(check):
            raise InvalidInstance(f"checks.{number}.{field}: {reason}", field=f"checks.{number}.{field}")


def admit_heartbeats(spec: Spec) -> None:
    """Raises InvalidInstance for what telemetry could not keep in time, where the heartbeats come by the topic."""
    if spec.heartbeats == "direct":
        return
    lengths = {"lease_seconds": spec.lease_seconds} | {
        f"checks.{number}.ttl_seconds": check.ttl_seconds
        for number, check in enumerate(spec.checks)
        if isinstance(check, TtlCheck)
    }
    for field, seconds in lengths.items():
        if seconds is not None and seconds < heartbeats_topic_seconds_min:
            reason = f"at least {heartbeats_topic_seconds_min:g} s where heartbeats come by the topic"
            raise InvalidInstance(f"{field}: {reason}, not {seconds:g}", field=field)


def _faults(check: HttpCheck | TcpCheck) -> Iterator[tuple[str, str]]:
    """Each field that cannot stand, and why."""
    longest = timeout_seconds_max(check)
    if check.timeout_seconds > longest:
        yield "timeout_seconds", f"at most the interval, and at most 60 s: {longest:g} here"
    if isinstance(check, TcpCheck):
        if (reason := _fault_of_host(check.host)) is not None:
            yield "host", reason
        return
    yield from _faults_of_url(check.url)
    if isinstance(check, HttpsCheck):
        yield from _faults_of_tls(check)
    if (reason := _fault_of_headers(check.headers)) is not None:
        yield "headers", reason
    yield from _faults_of_expectations(check)


def _faults_of_url(url: str) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        yield "url", f"it cannot be read: {error}"
        return
    place = parts.netloc.rpartition("@")[2]
    # urlsplit passes over what stands beside the brackets, and whatever asks would not.
    if ("[" in place or "]" in place) and _BRACKETS.fullmatch(place) is None:
        yield "url", "it cannot be read: an IPv6 address stands in brackets, and nothing but a port behind them"
        return
    if port == 0:
        yield "url", "nobody can listen on port 0"
    if (reason := _fault_of_host(host)) is not None:
        yield "url", reason


def _faults_of_tls(check: HttpsCheck) -> Iterator[tuple[str, str]]:
    if not check.url.startswith("https:"):
        yield "url", "this kind of check asks an https:// URL"
    if check.server_name is not None and (reason := _fault_of_host(check.server_name)) is not None:
        yield "server_name", reason
    if check.ca_pem is not None and check.skip_verify:
        yield "skip_verify", "it trusts anyone, so `ca_pem` would say nothing"


def _fault_of_host(host: str) -> str | None:
    """Why no address can ever be found for the host; None: one may be."""
    if ":" in host:
        return None if _is_ipv6(host) else f"{host[:80]!r} is neither a name nor an address"
    try:
        # As the resolver is asked; a name in other letters than ASCII has such a form.
        ascii_host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        return f"{host[:80]!r} is not the name of a host"
    labels = ascii_host.removesuffix(".").split(".")
    if len(ascii_host) > _host_chars_max or not all(0 < len(label) <= _label_chars_max for label in labels):
        return f"{host[:80]!r} is not the name of a host: its parts have 1 to 63 characters, all of it at most 253"
    if not _HOST.issuperset(ascii_host):
        return f"{host[:80]!r} is not the name of a host"
    if all(label.isdecimal() for label in labels) and not _is_ipv4(labels):
        return f"{host[:80]!r} is not an address"
    return None


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_ipv4(labels: list[str]) -> bool:
    # Also in the short forms that resolvers take, in which the last part fills what is left: 127.1
    *first, last = map(int, labels)
    return len(labels) <= 4 and all(part <= 255 for part in first) and last < 256 ** (5 - len(labels))


def _fault_of_headers(headers: dict[str, str]) -> str | None:
    if len(headers) > headers_max:
        return f"at most {headers_max}"
    if sum(len(name.encode()) + len(value.encode()) for name, value in headers.items()) > header_bytes_max:
        return f"at most {header_bytes_max} bytes of names and values in all"
    names = [name.lower() for name in headers]
    for name, value in headers.items():
        shown = repr(name[:80])
        if not name or not _TOKEN.issuperset(name):
            return f"{shown} is not the name of a header"
        if any(char < " " and char != "\t" for char in value) or "\x7f" in value:
            return f"{shown} has a value with control characters"
        # A server would wait for a body that never comes.
        if name.lower() == "transfer-encoding" or (name.lower() == "content-length" and value.strip() != "0"):
            return f"{shown} announces a body, and a check sends none"
        if names.count(name.lower()) > 1:
            return f"{shown} stands there twice"
        if name.lower() == "host" and not (value and _HOST_HEADER.issuperset(value)):
            return "'Host' is not the name of a host"
    return None


def _faults_of_expectations(check: HttpCheck) -> Iterator[tuple[str, str]]:
    status = check.expected_status
    # 101 is the one of them that ends an exchange; the others announce the answer.
    if status is not None and status < 200 and status != 101:
        yield "expected_status", f"{status} only announces an answer, and is never its status"
    if check.body_match is not None and (check.method == "HEAD" or status == 101 or status in _BODYLESS):
        what = "HEAD is answered" if check.method == "HEAD" else f"{status} comes"
        yield "body_match", f"{what} without a body"
