"""httpx: `httpx.AsyncClient(mounts={"muster://users": muster.BalancedTransport(users)})`, then `client.get("muster://users/…")`.

The transport stands where httpx would open a connection to the URL's host. It gives each request the address of an instance and
hands it to a transport of httpx, which keeps the connections; its `Host` header stays the service's name. An answer that sends
its caller elsewhere in the service, by a path or by its name, is followed through the transport again.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from functools import lru_cache
from math import inf
from time import monotonic
from types import TracebackType
from typing import Final, Self

import httpx

from muster.balance.attempt import Attempt
from muster.balance.balancer import Balancer
from muster.balance.hooks.http import OVERLOADED, REPEATABLE, outcome_of, priority_of
from muster.balance.hooks.priority import usual
from muster.balance.limit import Priority
from muster.balance.request import refuse_others
from muster.balance.sending import Asking, asked
from muster.wire.error import InvalidCommand

SCHEME: Final = "muster"
GRACE_SECONDS: Final = 1.0
"""So much longer an attempt may take whose steps are all in time, as headers do that come byte by byte."""
# Raised before anything is sent.
_OWN: Final = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)


class BalancedTransport(httpx.AsyncBaseTransport):
    """A transport of httpx that sends each request to one of the balancer's instances, by `scheme`, or by https if it asks so.

    `transport` keeps the connections (None: one with httpx's defaults); it is closed with this one. `priority` is that of
    requests without the header `Muster-Priority`; `overloaded` are the statuses that say that an instance has too much to do. A
    call is under way until its body is read or closed. Repeated, at another instance, is what was surely not sent, and GET, HEAD,
    PUT and DELETE when they fail or are answered with 5xx. Raises NoAvailableInstances and ResourceExhausted, else what httpx
    raises.
    """

    def __init__(
        self,
        balancer: Balancer,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        scheme: str = "http",
        priority: Priority = "normal",
        overloaded: Collection[int] = OVERLOADED,
    ) -> None:
        if scheme not in ("http", "https"):
            raise InvalidCommand("scheme: must be http or https", field="scheme")
        self._balancer, self._scheme, self._host = balancer, scheme, balancer.service.lower()
        self._priority, overloaded = usual(priority), frozenset(overloaded)
        self._asking = Asking(
            self._ask,
            _repeatable,
            lambda response: outcome_of(response.status_code, overloaded),
            httpx.Response.aclose,
            _is_own,
            keeps_time=True,
        )
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport
        # Of httpx's own transport it is known what it reads of a URL; any other one gets a whole one, which is dear to make.
        self._place = _At if type(self._transport) is httpx.AsyncHTTPTransport else _whole
        # What is not built on that may know nothing of the times of steps, and is cancelled in time.
        goes_by_steps = isinstance(self._transport, httpx.AsyncHTTPTransport)
        self._seconds = balancer.timeout_seconds + (GRACE_SECONDS if goes_by_steps else 0.0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The response of one of the instances."""
        # Mounted for all of a scheme, or given as a client's one transport, it is asked for other hosts too, and knows the
        # instances of one service.
        refuse_others(self._host, request.url.host)
        priority = priority_of(request.headers, self._priority)
        try:
            response, attempt = await asked(self._balancer, priority, request, self._asking)
        except TimeoutError as error:
            # The balancer's time is up, and not httpx's: the same to the caller.
            late = f"{self._balancer.service}: no answer in {self._balancer.timeout_seconds:g} s"
            raise httpx.ReadTimeout(late, request=request) from error
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _UnderWay(response.stream, attempt)
        return response

    async def _ask(self, attempt: Attempt, request: httpx.Request) -> httpx.Response:
        instance, url, extensions = attempt.instance, request.url, request.extensions
        # What was asked for by TLS never goes without it.
        scheme = "https" if url.scheme == "https" else self._scheme
        if scheme == "https":
            # The certificate is the service's, whatever the address of the instance is.
            extensions = {"sni_hostname": self._balancer.service, **extensions}
        steps = _Steps(extensions.get("timeout", {}), attempt.began_at + self._balancer.timeout_seconds)
        request.url = self._place(url, scheme, instance.address, instance.port)
        request.extensions = {**extensions, "timeout": steps}
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._transport.handle_async_request(request)
        except httpx.TimeoutException as error:
            if steps.is_last:
                raise TimeoutError from error
            raise
        finally:
            # Redirects, cookies and logs are about the service, and not about the instance that happened to answer.
            request.url, request.extensions = url, extensions
        # The body has the time that the caller gives it.
        steps.ends_at = inf
        if response.has_redirect_location and url.scheme == SCHEME:
            response.headers["Location"] = self._elsewhere(url, response.headers["Location"])
        return response

    def _elsewhere(self, asked: httpx.URL, location: str) -> str:
        """Where an answer sends its caller, as a URL that leads back here if it is of this service.

        httpx joins no path with a scheme that it does not know, and an instance names its service by the scheme that it has.
        """
        here = asked.copy_with(scheme=self._scheme)
        try:
            there = here.join(location)
        except httpx.InvalidURL:
            # The caller hears of it from httpx, as of any other.
            return location
        return str(there.copy_with(scheme=SCHEME)) if _origin(there) == _origin(here) else str(there)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc_value, traceback)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


class _Steps(dict[str, float | None]):
    """The times of a request's steps, as httpx asks for them: no step has more than what is left of the attempt's time.

    A step that httpx ends itself leaves its connection as it should be. Whoever is cancelled between two steps leaves one that
    counts among the pool's for ever, though nobody uses it; after a hundred of them there is no room for any call.
    """

    def __init__(self, asked: Mapping[str, float | None], ends_at: float) -> None:
        super().__init__(asked)
        self.ends_at = ends_at
        self.is_last = False

    def get(self, name: str, default: float | None = None) -> float | None:  # type: ignore[override]
        """The seconds for a step that begins now; `is_last`: they are all that is left."""
        asked, left = super().get(name, default), self.ends_at - monotonic()
        self.is_last = left < inf and (asked is None or left <= asked)
        return max(0.0, left) if self.is_last else asked


def _repeatable(request: httpx.Request, _: BaseException | None) -> bool:
    # A body that comes from a generator is there once.
    return request.method in REPEATABLE and isinstance(request.stream, httpx.ByteStream)


def _is_own(error: Exception) -> bool:
    # A header with a line break, a body that cannot be sent.
    return isinstance(error, _OWN) or not isinstance(error, httpx.TransportError | OSError)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


class _At(httpx.URL):
    """The URL of an instance, with the path of what was asked: the scheme, host, port and raw path that a connection needs.

    To make a whole URL of them, httpx reads it all again, and that took half of what a balanced call cost beside a bare one.
    """

    def __init__(self, asked: httpx.URL, scheme: str, host: str, port: int) -> None:
        super().__init__(_root(scheme, host, port))
        self._asked = asked

    @property
    def raw_path(self) -> bytes:
        return self._asked.raw_path


@lru_cache(maxsize=1_000)
def _root(scheme: str, host: str, port: int) -> httpx.URL:
    return httpx.URL(scheme=scheme, host=host, port=port)


def _whole(asked: httpx.URL, scheme: str, host: str, port: int) -> httpx.URL:
    return asked.copy_with(scheme=scheme, host=host, port=port)


class _UnderWay(httpx.AsyncByteStream):
    """The body of a response; its attempt ends with it."""

    def __init__(self, stream: httpx.AsyncByteStream, attempt: Attempt) -> None:
        self._stream, self._attempt = stream, attempt

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except Exception:
            self._attempt.failed()
            raise

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._attempt.end()
