"""aiohttp: `aiohttp.ClientSession("http://users", middlewares=(muster.balanced(users),))`.

The middleware sits between the session and its connections. A request for the host that has the service's name gets the address
of an instance, and another one's if that does not answer; its `Host` header stays. All others pass as they are, so one session
can serve several services, and the rest of the world.
"""

from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache, partial
from typing import Final

from aiohttp import (
    ClientConnectionError,
    ClientError,
    ClientOSError,
    ClientRequest,
    ClientResponse,
    ServerDisconnectedError,
    StreamReader,
)
from yarl import URL

from muster.balance.attempt import Attempt
from muster.balance.balancer import Balancer
from muster.balance.hooks.http import OVERLOADED, REPEATABLE, outcome_of, priority_of
from muster.balance.hooks.priority import usual
from muster.balance.limit import Priority
from muster.balance.sending import Asking, asked
from muster.wire.registry.answers import Instance

Handler = Callable[[ClientRequest], Awaitable[ClientResponse]]
_Sent = tuple[ClientRequest, Handler]
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
    asking = Asking(_ask, _repeatable, lambda response: outcome_of(response.status, overloaded), _let_go, _is_own)

    async def send(request: ClientRequest, handler: Handler) -> ClientResponse:
        if request.url.raw_host != host:
            return await handler(request)
        if request.url.scheme in _BY_TLS and request.server_hostname is None:
            # The certificate is the service's, whatever the address of the instance is.
            request.server_hostname = balancer.service
        try:
            important = priority_of(request.headers, priority)
            response, attempt = await asked(balancer, important, (request, handler), asking)
        except _REPEATED_BY_AIOHTTP as error:
            if request.method not in REPEATABLE:
                raise
            # A session would repeat these by itself, without the budget, and maybe at the same instance.
            raise ClientConnectionError(f"{balancer.service}: {error}") from error
        return _until_read(response, attempt)

    return send


def _ask(attempt: Attempt, sent: _Sent) -> Awaitable[ClientResponse]:
    request, handler = sent
    # The connection is looked for by this address, behind the middlewares. `Host` was set before them.
    request.url = _at(request.url, attempt.instance)
    return handler(request)


def _repeatable(sent: _Sent, error: BaseException | None) -> bool:
    request, _ = sent
    # A TimeoutError that is not one of a step, like connecting, is the caller's time for the whole request: no other instance
    # could answer in it. And some bodies can be read but once.
    is_late = type(error) is TimeoutError
    return request.method in REPEATABLE and not is_late and not getattr(request.body, "consumed", False)


def _is_own(error: BaseException) -> bool:
    # A header with a line break, a body that cannot be sent. What the caller's own generator of a body raises comes as the cause
    # of an error of the connection.
    if type(error) is ClientConnectionError and error.__cause__ is not None:
        error = error.__cause__
    return not isinstance(error, ClientError | OSError)


def _at(asked: URL, instance: Instance) -> URL:
    """The URL that was asked for, at an instance: from its parts, since to have yarl read a text again costs twice as much."""
    origin = _origin(asked.scheme, instance.address, instance.port)
    if not asked.raw_query_string:
        return origin.with_path(asked.raw_path, encoded=True)
    return URL.build(
        scheme=asked.scheme,
        authority=origin.raw_authority,
        path=asked.raw_path,
        query_string=asked.raw_query_string,
        encoded=True,
    )


@lru_cache(maxsize=1_000)
def _origin(scheme: str, host: str, port: int) -> URL:
    return URL.build(scheme=scheme, host=host, port=port)


async def _let_go(response: ClientResponse) -> None:
    response.release()


def _until_read(response: ClientResponse, attempt: Attempt) -> ClientResponse:
    """The response; the attempt is under way until its connection is let go: behind its last byte, or when it is closed."""
    connection = response.connection
    if connection is None:
        attempt.end()
    else:
        connection.add_callback(partial(_over, response.content, attempt))
    return response


def _over(body: StreamReader, attempt: Attempt) -> None:
    # The body's own error: it was broken off there, and not left by the caller.
    if body.exception() is not None:
        attempt.failed()
    attempt.end()
