"""One call through a balanced channel: at an instance, maybe at a second one; and what its end says of the instance."""

import asyncio
from collections.abc import Callable, Generator
from time import monotonic
from typing import Final, Protocol

import grpc
from grpc.aio import AioRpcError

from muster.balance.attempt import Attempt
from muster.balance.balancer import Balancer
from muster.balance.limit import Priority
from muster.balance.picker import CallOutcome
from muster.balance.sending import Asking, asked
from muster.client.channels import never_sent


class GrpcCall(Protocol):
    """A call at one instance, as grpc.aio gives it: what is used here of it."""

    def __await__(self) -> Generator[object, None, object]: ...

    def cancel(self) -> bool:
        """Give it up; False: it is over already."""

    def add_done_callback(self, callback: "Callable[[GrpcCall], None]") -> None:
        """Call it when this is over."""

    async def code(self) -> grpc.StatusCode:
        """How it ended."""

    async def details(self) -> str:
        """What the server said of its end."""

    async def initial_metadata(self) -> object:
        """What the server sent before its answer."""

    async def trailing_metadata(self) -> object:
        """What the server sent behind its answer."""


Begin = Callable[[Attempt, float | None], GrpcCall]
"""Begins the call at the attempt's instance, with so many seconds left (None: it has no deadline)."""

# What an instance says of itself. All other codes are answers to what was asked, like NOT_FOUND.
_OUTCOMES: Final[dict[grpc.StatusCode, CallOutcome]] = {
    grpc.StatusCode.UNAVAILABLE: "failed",
    grpc.StatusCode.INTERNAL: "failed",
    grpc.StatusCode.UNKNOWN: "failed",
    grpc.StatusCode.DATA_LOSS: "failed",
    # An instance of another version: its refusals are quick, and would draw all calls.
    grpc.StatusCode.UNIMPLEMENTED: "failed",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "overloaded",
    grpc.StatusCode.DEADLINE_EXCEEDED: "overloaded",
    grpc.StatusCode.CANCELLED: "cancelled",
}

_CANCELLED: Final = AioRpcError(
    grpc.StatusCode.CANCELLED, grpc.aio.Metadata(), grpc.aio.Metadata(), "it was cancelled by its caller"
)


class BalancedCall:
    """A call of one message each way: await it for the answer. It has what `grpc.aio.UnaryUnaryCall` has.

    What is asked of it besides, like its code, is that of the attempt that was the last.
    """

    def __init__(
        self, balancer: Balancer, priority: Priority, begin: Begin, *, timeout_seconds: float | None, repeatable: bool
    ) -> None:
        self._balancer, self._priority, self._begin, self._repeatable = balancer, priority, begin, repeatable
        self._ends_at = None if timeout_seconds is None else monotonic() + timeout_seconds
        self._over: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._is_seen_to = False
        self._call: GrpcCall | None = None
        # Begun at once, as gRPC does it, also if nobody ever waits for the answer.
        try:
            self._first = balancer.attempt(priority)
        except Exception as error:  # noqa: BLE001 whoever waits for the answer is told
            self._fail(error)
        else:
            self._begin_at(self._first).add_done_callback(self._see_to_it)

    def __await__(self) -> Generator[object, None, object]:
        if self._is_seen_to or self._over.done():
            return self._joined().__await__()
        # Whoever waits first does what is left to do in his own task: one more would be a twentieth of what a call costs.
        self._is_seen_to = True
        return self._run().__await__()

    def _see_to_it(self, _: GrpcCall) -> None:
        """The first attempt is over. If nobody waits for it, what follows from that is done here."""
        if not self._is_seen_to:
            self._is_seen_to = True
            # Held, since the event loop itself keeps no hold of its tasks.
            self._task = asyncio.ensure_future(self._run())
            self._task.add_done_callback(_seen)

    async def _run(self) -> object:
        asking = Asking(self._ask, self._may_repeat, is_own=_is_own, keeps_time=True)
        try:
            answer, attempt = await asked(self._balancer, self._priority, None, asking, self._first)
        except BaseException as error:
            self._fail(error)
            raise
        attempt.end()
        self._over.set_result(answer)
        return answer

    async def _joined(self) -> object:
        """The answer, where somebody else has waited first."""
        try:
            return await asyncio.shield(self._over)
        except asyncio.CancelledError:
            # Also for the others, as with gRPC.
            self.cancel()
            raise

    async def _ask(self, attempt: Attempt, _: None) -> object:
        call = self._call
        if attempt is not self._first or call is None:
            call = self._begin_at(attempt)
        try:
            return await call
        except AioRpcError as error:
            attempt.sent = not never_sent(error)
            attempt.record(_OUTCOMES.get(error.code(), "ok"))
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or not self._has_time():
                raise
            # The balancer's time is up, and not the caller's: the same to him.
            balancer, nothing = self._balancer, grpc.aio.Metadata()
            details = f"{balancer.service}: no answer in {balancer.timeout_seconds:g} s"
            raise AioRpcError(error.code(), nothing, nothing, details) from error

    def _begin_at(self, attempt: Attempt) -> GrpcCall:
        # A second attempt has what is left of the caller's time. Within it each has the balancer's.
        left, seconds = self.time_remaining(), self._balancer.timeout_seconds
        try:
            self._call = self._begin(attempt, seconds if left is None else min(left, seconds))
        except Exception:
            # An option that there is not: the caller's own, and no failure of any instance.
            attempt.record("cancelled")
            attempt.end()
            raise
        return self._call

    def _may_repeat(self, *_: object) -> bool:
        return self._repeatable and self._has_time()

    def _has_time(self) -> bool:
        """Whether another instance could answer in the caller's time. One that is asked in none would look overloaded."""
        left = self.time_remaining()
        return left is None or left > 0

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            self._over.cancel()
            return
        self._over.set_exception(error)
        # Who never asks for the answer is not told of its error either, as with gRPC.
        self._over.exception()

    def done(self) -> bool:
        """Whether it is over."""
        return self._over.done()

    def cancelled(self) -> bool:
        """Whether it was cancelled here."""
        return self._over.cancelled()

    def cancel(self) -> bool:
        """Give it up; False: it is over already."""
        return not self._over.done() and self._call is not None and bool(self._call.cancel())

    def time_remaining(self) -> float | None:
        """The seconds that are left; None: it has no deadline."""
        return None if self._ends_at is None else max(0.0, self._ends_at - monotonic())

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        """Call it with this call when this is over."""
        self._over.add_done_callback(lambda _: callback(self))

    async def initial_metadata(self) -> object:
        """What the server sent before its answer."""
        return await (await self._last()).initial_metadata()

    async def trailing_metadata(self) -> object:
        """What the server sent behind its answer."""
        return await (await self._last()).trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        """How it ended."""
        return await (await self._last()).code()

    async def details(self) -> str:
        """What the server said of its end."""
        return await (await self._last()).details()

    async def wait_for_connection(self) -> None:
        """Wait until an instance has answered; raises what the call raises."""
        await asyncio.shield(self)

    async def _last(self) -> "GrpcCall | _Ended":
        """What tells of its end: the error that it has raised, else the attempt that was the last."""
        await asyncio.wait([self._over])
        if self._over.cancelled():
            return _Ended(_CANCELLED)
        error = self._over.exception()
        if isinstance(error, AioRpcError):
            return _Ended(error)
        if error is not None:
            # No instance could be called, and this says so.
            raise error
        assert self._call is not None, "a call that was answered was begun"
        return self._call


class _Ended:
    """An error, asked as a call is."""

    def __init__(self, error: AioRpcError) -> None:
        self._error = error

    async def code(self) -> grpc.StatusCode:
        return self._error.code()

    async def details(self) -> str:
        return self._error.details() or ""

    async def initial_metadata(self) -> object:
        return self._error.initial_metadata()

    async def trailing_metadata(self) -> object:
        return self._error.trailing_metadata()


async def finish(call: GrpcCall, attempt: Attempt) -> None:
    """End the attempt of a call that is done; its code says what has become of it."""
    try:
        attempt.record(_OUTCOMES.get(await call.code(), "ok"))
    finally:
        attempt.end()


def _is_own(error: Exception) -> bool:
    # Metadata or a message that cannot be sent.
    return not isinstance(error, AioRpcError | OSError)


def _seen(task: "asyncio.Future[object]") -> None:
    # Who never asks for the answer is not told of its error either, as with gRPC.
    if not task.cancelled():
        task.exception()
