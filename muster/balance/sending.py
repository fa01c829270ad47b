"""A call with its second chance: at another instance, if nothing can go wrong by that and the budget allows it.

Repeated is what surely never reached an instance, which costs no budget, and what has failed if the caller says that it is
repeatable. Never at an instance that was tried. What the last attempt ended with is what the caller gets.
"""

import asyncio
import errno
from asyncio import current_task
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from muster.balance.attempt import Attempt
from muster.balance.limit import Priority
from muster.balance.picker import CallOutcome
from muster.balance.request import NotSent, Request, refuse_others

if TYPE_CHECKING:
    from muster.balance.balancer import Balancer

R = TypeVar("R")
T = TypeVar("T")
Call = Callable[[Attempt, Request], Awaitable[T]]


class AttemptTimes:
    """Cancels attempts whose time is up. All have the same time, so they end in the order in which they have begun, and one timer
    does for all of them. One timer each, as `asyncio.timeout` has it, was a third of what a balanced call cost beside a bare one.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        # In the order in which they have begun; with each its task, and how often that had been cancelled before.
        self._under_way: dict[Attempt, tuple[asyncio.Task[object], int]] = {}
        self._late: dict[Attempt, tuple[asyncio.Task[object], int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begun(self, attempt: Attempt) -> None:
        """The current task is waiting for this attempt from now on; `ended` has to follow."""
        task = current_task()
        assert task is not None, "attempts are made by coroutines of an event loop"
        self._under_way[attempt] = task, task.cancelling()
        if self._timer is None:
            self._wait_for(attempt)

    def ended(self, attempt: Attempt) -> bool:
        """It is over. Returns whether its task was cancelled because its time was up, and for no other reason."""
        if self._under_way.pop(attempt, None) is not None:
            return False
        task, cancelled_before = self._late.pop(attempt)
        # As asyncio.timeout does it: a task that somebody else has cancelled too stays cancelled.
        return task.uncancel() <= cancelled_before

    def close(self) -> None:
        """The balancer is closed. What is opened again has other times: this loop's timer would never ring in another loop."""
        # Calls that are still under way end in this loop, in their time.
        if self._timer is not None and not self._under_way:
            self._timer.cancel()
            self._timer = None

    def _wait_for(self, first: Attempt) -> None:
        left = first.began_at + self._seconds - self._clock()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, left), self._look)

    def _look(self) -> None:
        self._timer = None
        due_at = self._clock() - self._seconds
        while self._under_way:
            first = next(iter(self._under_way))
            if first.began_at > due_at:
                self._wait_for(first)
                return
            self._late[first] = task, _ = self._under_way.pop(first)
            task.cancel()


# By name, since neither library need be there. None of them has a connection when it raises these.
_NOT_CONNECTED: Final = {
    "aiohttp.client_exceptions.ClientConnectorError",
    "aiohttp.client_exceptions.ConnectionTimeoutError",
    "httpx.ConnectError",
    "httpx.ConnectTimeout",
}
_NO_FAILURE: Final = (None, "ok", "cancelled")


@dataclass(frozen=True, slots=True)
class Asking(Generic[R, T]):
    """How a client gets the answers to its requests. Made once for a client, and not with each call.

    `ask` sends a request to the attempt's instance. `repeatable`: whether that may be done twice, after the error that it has
    raised (None: its answer is a failure). `outcome`: what an answer says of the instance, where `ask` does not say it by the
    attempt. `let_go` is given an answer in place of which another instance is asked. `is_own`: the error is the caller's own,
    and no failure of any instance. `keeps_time`: `ask` ends by itself when the balancer's time for an attempt is up.
    """

    ask: Callable[[Attempt, R], Awaitable[T]]
    repeatable: Callable[[R, BaseException | None], bool]
    outcome: Callable[[T], CallOutcome] | None = None
    let_go: Callable[[T], Awaitable[None]] | None = None
    is_own: Callable[[Exception], bool] = lambda _: False
    keeps_time: bool = False


async def send(balancer: "Balancer", request: Request, call: Call[T], *, repeatable: bool) -> T:
    """What the call returns, at the first instance or at a later one."""
    refuse_others(balancer.service, request.service)
    answer, attempt = await asked(balancer, request.priority, request, Asking(call, lambda *_: repeatable))
    attempt.end()
    return answer


async def asked(
    balancer: "Balancer", priority: Priority, request: R, asking: Asking[R, T], first: Attempt | None = None
) -> tuple[T, Attempt]:
    """The answer to the request that an instance gave, and the attempt, which the caller has to end. `first`: begun already.

    Raises what `asking.ask` raised at last, TimeoutError when that took longer than the balancer's `timeout_seconds`.
    """
    attempt, times = first or balancer.attempt(priority), None if asking.keeps_time else balancer.times
    tried: list[str] = []
    while True:
        if times is not None:
            times.begun(attempt)
        try:
            answer = await asking.ask(attempt, request)
        except BaseException as error:
            is_late = times is not None and times.ended(attempt) and isinstance(error, asyncio.CancelledError)
            attempt.sent = attempt.sent and not is_not_sent(error)
            if isinstance(error, Exception) and asking.is_own(error):
                attempt.record("cancelled")
            # As a block that this error has left: it says what has become of the attempt, and ends it.
            attempt.__exit__(None, TimeoutError() if is_late else error, None)
            following = _following(balancer, priority, attempt, tried, partial(asking.repeatable, request, error))
            if following is None and is_late:
                raise TimeoutError from error
            if following is None:
                raise
        else:
            if times is not None:
                times.ended(attempt)
            if asking.outcome is not None:
                attempt.record(asking.outcome(answer))
            if attempt.outcome in _NO_FAILURE:
                return answer, attempt
            following = _following(balancer, priority, attempt, tried, partial(asking.repeatable, request, None))
            if following is None:
                return answer, attempt
            with attempt, _given_up(following):
                if asking.let_go is not None:
                    await asking.let_go(answer)
        attempt = following


@contextmanager
def _given_up(following: Attempt) -> Iterator[None]:
    """The attempt that follows is under way already: it must not stay so if the caller is cancelled within this block."""
    try:
        yield
    except BaseException:
        following.record("cancelled")
        following.end()
        raise


def _following(
    balancer: "Balancer", priority: Priority, attempt: Attempt, tried: list[str], repeatable: Callable[[], bool]
) -> Attempt | None:
    """The next attempt; None: this one was no failure, it may not be repeated, or there is nobody else to ask."""
    if attempt.outcome in _NO_FAILURE:
        return None
    tried.append(attempt.instance.instance)
    if (attempt.sent and not repeatable()) or len(tried) >= balancer.attempts_max:
        return None
    # Where there is nobody else, the caller hears why the attempt before has failed.
    return balancer.again(priority, tried, sent=attempt.sent)


def is_not_sent(error: BaseException) -> bool:
    """Whether the error says that no byte of the call has reached the instance."""
    if isinstance(error, NotSent | ConnectionRefusedError) or getattr(error, "errno", None) == errno.ECONNREFUSED:
        return True
    return any(f"{kind.__module__}.{kind.__qualname__}" in _NOT_CONNECTED for kind in type(error).__mro__)
