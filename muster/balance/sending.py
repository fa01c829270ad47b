"""A call with its second chance: at another instance, if nothing can go wrong by that and the budget allows it.

Repeated is what surely never reached an instance, which costs no budget, and what has failed if the caller says that it is
repeatable. Never at an instance that was tried. What the last attempt ended with is what the caller gets.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from muster.balance.attempt import Attempt
from muster.balance.limit import Priority
from muster.balance.request import NotSent, Request, refuse_others

if TYPE_CHECKING:
    from muster.balance.balancer import Balancer

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
        task = asyncio.current_task()
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
        """The balancer is closed. It may be opened again in another event loop, where this loop's timer would never ring."""
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


async def send(balancer: "Balancer", request: Request, call: Call[T], *, repeatable: bool) -> T:
    """What the call returns, at the first instance or at a later one."""
    refuse_others(balancer.service, request.service)
    answer, attempt = await asked(
        balancer, request.priority, lambda attempt: call(attempt, request), repeatable=lambda: repeatable
    )
    attempt.end()
    return answer


async def asked(
    balancer: "Balancer",
    priority: Priority,
    ask: Callable[[Attempt], Awaitable[T]],
    *,
    repeatable: Callable[[], bool],
    let_go: Callable[[T], Awaitable[None]] | None = None,
) -> tuple[T, Attempt]:
    """The answer that `ask` got from an instance, and the attempt, which the caller has to end.

    `ask` may say by the attempt that its answer is a failure. `let_go` is given such an answer when another instance is asked.
    Raises what `ask` raised at last, TimeoutError when that took longer than the balancer's `timeout_seconds`.
    """
    attempt, tried, times = balancer.attempt(priority), list[str](), balancer.times
    while True:
        times.begun(attempt)
        try:
            answer = await ask(attempt)
        except BaseException as error:
            is_late = times.ended(attempt) and isinstance(error, asyncio.CancelledError)
            attempt.sent = attempt.sent and not is_not_sent(error)
            # As a block that this error has left: it says what has become of the attempt, and ends it.
            attempt.__exit__(None, TimeoutError() if is_late else error, None)
            following = _following(balancer, priority, attempt, tried, repeatable)
            if following is None and is_late:
                raise TimeoutError from error
            if following is None:
                raise
        else:
            times.ended(attempt)
            following = _following(balancer, priority, attempt, tried, repeatable)
            if following is None:
                return answer, attempt
            with attempt, _given_up(following):
                if let_go is not None:
                    await let_go(answer)
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
    """The next attempt; None: this one was answered, it may not be repeated, or there is nobody else to ask."""
    if attempt.outcome in (None, "ok", "cancelled"):
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
