"""A call with its second chance: at another instance, if nothing can go wrong by that and the budget allows it.

Repeated is what surely never reached an instance, and anything at all if the caller says that it is repeatable. Never at an
instance that was tried. What the last attempt ended with is what the caller gets.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from muster.balance.attempt import Attempt
from muster.balance.request import NotSent, Request
from muster.wire.error import NoAvailableInstances, ResourceExhausted

if TYPE_CHECKING:
    from muster.balance.balancer import Balancer

T = TypeVar("T")
Call = Callable[[Attempt, Request], Awaitable[T]]

# By name, since neither library need be there. None of them has a connection when it raises these.
_NOT_CONNECTED: Final = {
    "aiohttp.client_exceptions.ClientConnectorError",
    "aiohttp.client_exceptions.ConnectionTimeoutError",
    "httpx.ConnectError",
    "httpx.ConnectTimeout",
}


async def send(balancer: "Balancer", request: Request, call: Call[T], *, repeatable: bool) -> T:
    """What the call returns, at the first instance or at a later one."""
    tried: list[str] = []
    failure: Exception | None = None
    while True:
        try:
            attempt = balancer.pick(request, tried)
        except (NoAvailableInstances, ResourceExhausted):
            # There is no other one to try: then the caller hears why the first attempt failed.
            if failure is None:
                raise
            raise failure from None
        tried.append(attempt.instance.instance)
        try:
            with attempt:
                async with asyncio.timeout(balancer.timeout_seconds):
                    return await call(attempt, request)
        except Exception as error:
            failure = error
            again = repeatable or not attempt.sent or is_not_sent(error)
            if attempt.outcome == "ok" or not again or len(tried) >= balancer.attempts_max or not balancer.may_retry():
                raise


def is_not_sent(error: BaseException) -> bool:
    """Whether the error says that no byte of the call has reached the instance."""
    if isinstance(error, NotSent | ConnectionRefusedError) or getattr(error, "errno", None) == errno.ECONNREFUSED:
        return True
    return any(f"{kind.__module__}.{kind.__qualname__}" in _NOT_CONNECTED for kind in type(error).__mro__)
