"""The frames of watches, as server-sent events. The `id` of a frame is the token of the views as of after it.

snapshot  {…, items, token}  all that is there
delta     {changes}          what has changed of instances; {items[, gone]} rows that are new or have changed, each of them whole
traffic   {service, policy, …}  the row of the service's traffic; old clients pass over it
reset     {token, reason}    the snapshot that follows replaces all that was known: the changes in between are not kept
                             (`not_kept`), or what was known is of another log (`other_log`)
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import orjson

from muster.wire.token import Positions
from workers.http.exchange import slice_bytes_max

slice_items_max: Final = 256
NOTHING_MISSED: Final = b": nothing was missed\n\n"
OTHER_LOG: Final = "other_log"
NOT_KEPT: Final = "not_kept"
Reason = Literal["other_log", "not_kept"]
"""Why a watch begins anew."""

Resumed = Positions | Literal["other_log"] | None
"""Where a watcher goes on: behind these positions; anew, since what it has seen is of another log; None: it is a new one."""


def reason_of(resumed: Resumed) -> Reason | None:
    """Why the watcher, who has missed what is not kept, begins anew; None: it only begins."""
    if resumed is None:
        return None
    return OTHER_LOG if resumed == OTHER_LOG else NOT_KEPT


def snapshot(head: bytes, token: str, items: Iterator[bytes], reset: Reason | None) -> Iterator[bytes]:
    """A snapshot's frame in pieces; `head` are members before the items. `reset`: why it replaces what the watcher knew."""
    start = b'id: %b\nevent: snapshot\ndata: {%b"items":[' % (token.encode(), head)
    if reset:
        # No id: a watcher that loses the connection before the snapshot has come must not resume after it.
        start = b'event: reset\ndata: {"token":"%b","reason":"%b"}\n\n' % (token.encode(), reset.encode()) + start
    yield start
    yield from slices(items, slice_items_max)
    yield b'],"token":"%b"}\n\n' % token.encode()


def changes(token: str, encoded: Sequence[bytes]) -> bytes:
    """A delta of encoded changes of instances."""
    return b'id: %b\nevent: delta\ndata: {"changes":[%b]}\n\n' % (token.encode(), b",".join(encoded))


def traffic(token: str, row: bytes) -> bytes:
    """What is set for the clients of the service that is watched."""
    return b"id: %b\nevent: traffic\ndata: %b\n\n" % (token.encode(), row)


def rows(token: str, encoded: Sequence[bytes], gone: Sequence[str] | None) -> bytes:
    """A delta of encoded rows; `gone` names those that are no longer there (None: rows of this kind stay)."""
    more = b"" if gone is None else b',"gone":%b' % orjson.dumps(gone)
    return b'id: %b\nevent: delta\ndata: {"items":[%b]%b}\n\n' % (token.encode(), b",".join(encoded), more)


def slices(items: Iterator[bytes], items_max: int) -> Iterator[bytes]:
    """The encoded items joined in pieces of `items_max`, less where these are large, for one array."""
    piece: list[bytes] = []
    size, between = 0, b""
    for item in items:
        piece.append(item)
        size += len(item)
        if size >= slice_bytes_max or len(piece) >= items_max:
            yield between + b",".join(piece)
            piece, size, between = [], 0, b","
    if piece:
        yield between + b",".join(piece)
