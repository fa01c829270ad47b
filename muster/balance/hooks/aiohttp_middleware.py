"""aiohttp: `aiohttp.ClientSession("http://users", middlewares=(muster.balanced(users),))`.

The middleware sits between the session and its connections. A request for the host that has the service's name gets the address
of an instance, and another one's if that does not answer; its `Host` header stays. All others pass as they are, so one session
can serve several services, and the rest of the world.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

from aiohttp import (
    ClientConnectionError,
    ClientError,
    ClientOSError,
    ClientRequest,
    ClientResponse,
    ServerDisconnectedError,
)
from yarl import URL

from muster.balance.attempt import Attempt
from muster.balance.balancer import Balancer
from muster.balance.hooks.http import OVERLOADED, REPEATABLE, priority_of
from muster.balance.hooks.priority import usual
from muster.balance.limit import Priority
from muster.balance.sending import asked

Handler = Callable[[ClientRequest], Awaitable[ClientResponse]]
Middleware = Callable[[ClientRequest, Handler], Awaitable[ClientResponse]]

_BY_TLS: Final = ("https", "wss")
_REPEATED_BY_AIOHTTP: Final = (ClientOSError, ServerDisconnectedError)


def balanced(
    balancer: Balancer, *, priority: Priority = "normal", overloaded: Collection[int] = OVERLOADED
) -> Middleware:
    """A client middleware for aiohttp that sends the requests for the balancer's service to its instances.

    `priority` is that of requests without the header `Muster-Priority`; `overloaded` are the statuses that say that an instance
    has too much to do. A call is under way until its body is read or released. Repeated, at another instance, is what was surely
    not sent, and GET, HEAD, PUT and DELETE when they fail or are answered with 5xx. Raises NoAvailableInstances and
    ResourceExhausted, else what aiohttp raises; but for GET and what else may be repeated, a connection that failed is a plain
    `ClientConnectionError`, and its cause is aiohttp's own error.
    """
    host, priority, overloaded = balancer.service.lower(), usual(priority), frozenset(overloaded)

    async def send(request: ClientRequest, handler: Handler) -> ClientResponse:
        if (request.url.raw_host or "") != host:
            return await handler(request)
        sending = _Sending(balancer, request, handler, overloaded)
        try:
            response, attempt = await asked(
                balancer,
                priority_of(request.headers, priority),
                sending.ask,
                repeatable=sending.may_be_repeated,
                let_go=_let_go,
            )
        except _REPEATED_BY_AIOHTTP as error:
            if request.method not in REPEATABLE:
                raise
            # A session would repeat these by itself, without the budget, and maybe at the same instance.
            raise ClientConnectionError(f"{balancer.service}: {error}") from error
        return _until_read(response, attempt)

    return send


class _Sending:
    """One request, until an instance has answered it."""

    __slots__ = ("_handler", "_overloaded", "_request", "_time_is_up", "_url")

    def __init__(
        self, balancer: Balancer, request: ClientRequest, handler: Handler, overloaded: Collection[int]
    ) -> None:
        self._request, self._handler, self._overloaded = request, handler, overloaded
        self._url = request.url
        self._time_is_up = False
        if self._url.scheme in _BY_TLS and request.server_hostname is None:
            # The certificate is the service's, whatever the address of the instance is.
            request.server_hostname = balancer.service

    async def ask(self, attempt: Attempt) -> ClientResponse:
        # The connection is looked for by this address, behind the middlewares. `Host` was set before them.
        url = self._url
        # Put together from its parts: to have yarl read a text again costs twice as much.
        self._request.url = URL.build(
            scheme=url.scheme,
            authority=attempt.instance.endpoint,
            path=url.raw_path,
            query_string=url.raw_query_string,
            encoded=True,
        )
        try:
            response = await self._handler(self._request)
        except TimeoutError as error:
            # Not one of a step, like connecting: the caller's time for the whole request. No other instance could answer in it.
            self._time_is_up = type(error) is TimeoutError
            raise
        except Exception as error:
            # A header with a line break, a body that cannot be sent: the caller's own, and no failure of any instance.
            if not isinstance(error, ClientError | OSError):
                attempt.record("cancelled")
            raise
        attempt.answered(failed=response.status >= 500, overloaded=response.status in self._overloaded)
        return response

    def may_be_repeated(self) -> bool:
        request = self._request
        # Some bodies can be read but once.
        return request.method in REPEATABLE and not self._time_is_up and not getattr(request.body, "consumed", False)


async def _let_go(response: ClientResponse) -> None:
    response.release()


def _until_read(response: ClientResponse, attempt: Attempt) -> ClientResponse:
    """The response; the attempt is under way until its connection is let go: behind its last byte, or when it is closed."""
    connection = response.connection
    if connection is None:
        attempt.end()
    else:
        connection.add_callback(attempt.end)
    return response
