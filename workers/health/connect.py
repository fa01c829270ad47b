"""Connections of checks: names are looked up, each address is judged, and a silent one holds no other up (RFC 8305).

For https also whom a check trusts, and under which name.
"""

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, TypeVar

from aiohappyeyeballs import start_connection

from muster.wire.registry.check import HttpCheck, HttpsCheck
from workers.health.targets import Targets

SECOND_ADDRESS_SECONDS: Final = 0.25
LOOKUPS_MAX: Final = 32

Sockaddr = tuple[str, int] | tuple[str, int, int, int]
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]
ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


class Forbidden(Exception):
    """No address of the target may be asked; the text says why."""


class Crowded(Exception):
    """Too many names of this owner are being looked up; says nothing of the target."""


class Resolver:
    """Looks names up in threads of its own, so that a name server that is silent holds up only those who ask it.

    A name is looked up once at a time, and an owner has at most as many look-ups under way as there is room for.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[list[AddressInfo]]] = {}
        self._owners: Counter[str] = Counter()

    async def addresses(self, host: str, owner: str) -> list[AddressInfo]:
        """The addresses of the host, in the order in which they are to be tried. Raises OSError and Crowded."""
        literal = _literal(host)
        if literal is not None:
            return literal
        future = self._under_way.get(host)
        if future is None:
            # A look-up cannot be stopped: one that a check no longer waits for still counts.
            if self._owners[owner] >= LOOKUPS_MAX - len(self._under_way):
                raise Crowded
            future = self._look_up(host, owner)
        return await asyncio.shield(future)

    def _look_up(self, host: str, owner: str) -> "asyncio.Future[list[AddressInfo]]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[AddressInfo]] = loop.create_future()
        self._under_way[host] = future
        self._owners[owner] += 1

        def done(found: list[AddressInfo] | OSError) -> None:
            del self._under_way[host]
            self._owners -= Counter((owner,))
            if not isinstance(found, OSError):
                future.set_result(found)
                return
            future.set_exception(found)
            future.exception()  # Perhaps nobody waits for it any more, and that is no fault.

        def run() -> None:
            found: list[AddressInfo] | OSError
            try:
                found = list(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM))
            except OSError as error:
                found = error
            except UnicodeError:
                found = socket.gaierror(socket.EAI_NONAME, "not the name of a host")
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, found)

        # Not of a pool: pools wait at the end of the process for what a silent name server holds.
        threading.Thread(target=run, name="look-up", daemon=True).start()
        return future


class Connector:
    """Makes the connections of checks, to whom they may ask."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._resolver = Resolver()

    async def connect(
        self,
        factory: Callable[[], ProtocolT],
        host: str,
        port: int,
        *,
        address: str,
        owner: str,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """A connection to the host, for the instance with this address. Raises Forbidden, Crowded and OSError."""
        allowed = await self._allowed(host, port, address, owner)
        name = (server_name or host) if tls is not None else None
        loop = asyncio.get_running_loop()
        if len(allowed) == 1 and len(allowed[0][4]) == 2:
            # An address is not looked up again: what was judged is what is asked.
            return await loop.create_connection(factory, str(allowed[0][4][0]), port, ssl=tls, server_hostname=name)
        infos = [(family, kind, proto, "", (at[0], port, *at[2:])) for family, kind, proto, _, at in allowed]
        found = await start_connection(infos, happy_eyeballs_delay=SECOND_ADDRESS_SECONDS, interleave=1, loop=loop)
        try:
            return await loop.create_connection(factory, sock=found, ssl=tls, server_hostname=name)
        except BaseException:
            found.close()
            raise

    async def _allowed(self, host: str, port: int, address: str, owner: str) -> list[AddressInfo]:
        found, targets = await self._resolver.addresses(host, owner), self._targets
        own = [str(at[0]) for *_, at in found]
        if targets.own and address != host:
            own = await self._addresses(address, owner)
        protected = [name for name, number in targets.protected if number == port]
        # Looked up by ourselves, for nobody: few checks ask the port of such a server.
        servers = [at for name in protected for at in await self._addresses(name, "")]
        refusals = [targets.refusal(str(info[4][0]), port, own, servers) for info in found]
        allowed = [info for info, refusal in zip(found, refusals, strict=True) if refusal is None]
        if not allowed:
            raise Forbidden(next((refusal for refusal in refusals if refusal), f"{host} has no address"))
        return allowed

    async def _addresses(self, name: str, owner: str) -> list[str]:
        """The addresses that the name has now. Raises Forbidden, with the name: whom it stands for cannot be told."""
        try:
            return [str(at[0]) for *_, at in await self._resolver.addresses(name, owner)]
        except OSError as error:
            raise Forbidden(
                f"not allowed: cannot resolve {name}, which is to be compared with ({error.strerror})"
            ) from None


def _literal(host: str) -> list[AddressInfo] | None:
    """The host as its address, if it is written as one."""
    # Most are; a scope (`%eth0`) has to be looked up, since only the system knows its number.
    try:
        version = ip_address(host).version if "%" not in host else None
    except ValueError:
        return None
    if version == 4:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, 0))]
    return None if version is None else [(socket.AF_INET6, socket.SOCK_STREAM, 0, "", (host, 0, 0, 0))]


def context_of(check: HttpCheck, default: ssl.SSLContext | None) -> ssl.SSLContext:
    """The context of the check; `default` where it says nothing of its own, None: the system's authorities are trusted."""
    if isinstance(check, HttpsCheck) and (check.ca_pem is not None or check.skip_verify):
        return _context(None if check.skip_verify else check.ca_pem, check.skip_verify)
    return default if default is not None else _context(None, False)


def server_name_of(check: HttpCheck) -> str | None:
    """The name that the certificate has to be for; None: the host of the URL."""
    return check.server_name if isinstance(check, HttpsCheck) else None


def fault_of_authority(ca_pem: str) -> str | None:
    """Why these are no certificates that can be trusted; None: they are."""
    try:
        _context(ca_pem, False)
    except (ssl.SSLError, ValueError) as error:
        return f"no certificates in PEM: {getattr(error, 'reason', None) or error}"
    return None


# To read the system's authorities takes 20 ms, and many instances of a service have the same of their own.
@lru_cache(maxsize=64)
def _context(ca_pem: str | None, skip_verify: bool) -> ssl.SSLContext:
    # With certificates of its own it trusts no others.
    context = ssl.create_default_context(cadata=ca_pem)
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
