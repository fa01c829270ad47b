"""Epochs at the door of an ASGI application: callers that know another primary than the one that serves here are told so.

A request's header `Muster-Epoch` is the epoch of the primary that its caller was given (`muster.Group`).

    lower than an epoch seen before    409 StaleEpoch, with the newer epoch: the caller asks anew who the primary is
    as high, or higher                 served; a higher one is kept by the guard first
    higher than this primary's own     409 StaleEpoch too, and `on_newer`: another one leads, and this process ends itself
    no number, or two of them          400 InvalidCommand
    none                               served: who sends no epoch takes no part in this

For any framework that speaks ASGI on asyncio; it imports none. Websockets and lifespan pass through.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, cast

import orjson

from muster.guard.guard import Guard, check_form
from muster.wire.error import InvalidCommand, MusterError, StaleEpoch
from muster.wire.groups.answers import EPOCH_HEADER
from muster.wire.problem import facts_of, problem_from

Asgi = Callable[..., Awaitable[None]]
"""An ASGI application, and what it is given to send with."""

# ASGI has the names of headers in lower case.
_HEADER: Final = EPOCH_HEADER.lower().encode()
_NUMBER: Final = re.compile(rb"[0-9]{1,19}")


class GuardMiddleware:
    """Stands before `app`. With `epoch` the process is the primary of that epoch; one that is promoted while it runs sets the
    attribute anew. Without, it is a resource that primaries write to, and goes along with every higher epoch.

    `on_newer(newer)` is called, once for each higher epoch, in the event loop, when a caller knows one that is higher than
    `epoch`: let it end the process, by a signal to itself for instance. Epochs are believed to whoever sends them, so let only
    callers of your own come this far.

    The check is made at the door. A write that must not come behind one of a newer epoch stands in `Guard.holding`, in the
    application.
    """

    def __init__(
        self, app: Asgi, guard: Guard, *, epoch: int | None = None, on_newer: Callable[[int], object] | None = None
    ) -> None:
        if on_newer is not None and epoch is None:
            raise InvalidCommand("epoch: on_newer needs the one of which this process is the primary", field="epoch")
        self.epoch = epoch
        self._app = app
        self._guard = guard
        self._on_newer = on_newer
        self._told = 0

    async def __call__(self, scope: Mapping[str, object], receive: object, send: Asgi) -> None:
        """One request, websocket or lifespan, as ASGI has them."""
        if scope["type"] == "http":
            try:
                asked = _epoch_of(cast("Iterable[tuple[bytes, bytes]]", scope["headers"]))
                if asked is not None:
                    await self._admit(asked)
            except MusterError as error:
                await _refuse(send, error)
                return
        await self._app(scope, receive, send)

    async def _admit(self, asked: int) -> None:
        own = self.epoch
        # Before the epoch is kept, which may take long, or fail: it is no less true then that another one leads.
        if own is not None and asked > max(own, self._told):
            self._told = asked
            if self._on_newer is not None:
                self._on_newer(asked)
        # In a thread: it may wait for the disk, and for who holds the guard.
        await asyncio.to_thread(self._guard.check, asked)
        if own is not None and asked != own:
            newer = max(asked, own)
            raise StaleEpoch(f"epoch {min(asked, own)} is over; the epoch is {newer}", epoch=newer)


def _epoch_of(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    values = [value for name, value in headers if name == _HEADER]
    if not values:
        return None
    # Python's `int` takes signs, spaces, underscores and the digits of all scripts.
    if len(values) > 1 or not _NUMBER.fullmatch(values[0]):
        raise InvalidCommand(f"{EPOCH_HEADER}: must be one whole number", field=EPOCH_HEADER)
    epoch = int(values[0])
    # Here, and not only by the guard: what can be no epoch ends no primary.
    check_form(epoch)
    return epoch


async def _refuse(send: Asgi, error: MusterError) -> None:
    facts = facts_of(error)
    if isinstance(error, InvalidCommand):
        # Of a command that cannot be read this is 422. Here it is the request itself that cannot.
        facts["status"] = 400
    body = orjson.dumps(problem_from(facts))
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": facts["status"], "headers": headers})
    await send({"type": "http.response.body", "body": body})
