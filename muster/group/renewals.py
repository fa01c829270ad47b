"""The renewals of a member: that it is there, and as the primary its lease.

A member that is alone in its process sends each renewal by itself. Where several memberships of one process speak to the same
controllers, those that are due at about the same time go in one request: a request costs a controller several times what the
renewal in it does. Each is still a command of its own, with its own answer.
"""

import asyncio
from asyncio import AbstractEventLoop, Future, Task, TaskGroup
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakKeyDictionary

import orjson
from pydantic import TypeAdapter

from muster.client.controllers.known import backoff_seconds
from muster.client.transport import Transport, path_of
from muster.clock import elapsed_seconds
from muster.group import conduct
from muster.group.progress import DISMISSED, LOG, MemberProgress
from muster.group.standing import RenewalRefused, Renewed
from muster.group.words import Words
from muster.wire.command import PublishedCommand, document_of, new_id
from muster.wire.controllers import urls_of
from muster.wire.error import MusterError, StaleEpoch, Transient
from muster.wire.registry.answers import Outcome

OnLease = Callable[[float, float], None]
lease_seconds_unknown: Final = 2.0
request_renewals_max: Final = 200
"""So many renewals are in one request at most: the controller decides them in one go, and others wait meanwhile."""
gather_seconds_max: Final = 0.05
_GATHER_SHARE: Final = 0.1
"""A renewal waits so long for others to go with, and at most for this share of the time that it may take in all."""
_OUTCOMES: Final = TypeAdapter(list[Outcome])


class SharedRenewals:
    """Sends the renewals of all memberships of one event loop that speak to the same controllers; see `shared_renewals`."""

    def __init__(self, url: str | Sequence[str], cluster: str | None) -> None:
        self.members = 0
        self._transport = Transport(url, actor=None, timeout_seconds=10.0, cluster=cluster)
        self._waiting: dict[tuple[int, float], _Waiting] = {}
        self._sending: set[Task[None]] = set()

    async def open(self) -> None:
        """Begin."""
        await self._transport.open()

    async def close(self) -> None:
        """End; nobody waits for an answer any more."""
        # Their timers find nothing to send then.
        self._waiting.clear()
        for task in list(self._sending):
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._transport.close()

    async def renew(self, words: Words, epoch: int | None, seconds: float) -> None:
        """As `Words.renew`, with others if there are any."""
        if self.members == 1:
            await words.renew(epoch, seconds)
            return
        # Apart by partition: where one has no writer for a while, an answer for all would come too late for the others.
        key = words.partition, seconds
        found = self._waiting.get(key)
        if found is None:
            found = self._waiting[key] = []
            asyncio.get_running_loop().call_later(_gather_seconds(seconds), self._send_soon, key, found)
        answered: Future[None] = asyncio.get_running_loop().create_future()
        found.append((words.renewal(epoch), answered))
        if len(found) == request_renewals_max:
            self._send_soon(key, found)
        await answered

    def _send_soon(self, key: tuple[int, float], waiting: "_Waiting") -> None:
        # A full list has gone before its time was over, and another one may stand in its place.
        if self._waiting.get(key) is not waiting:
            return
        del self._waiting[key]
        sending = self._send(waiting, key[1] - _gather_seconds(key[1]))
        task = asyncio.create_task(sending, name="renewals")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, some: "_Waiting", seconds: float) -> None:
        body = {"commands": [document_of(command) for command, _ in some]}
        try:
            reply = await self._transport.write(
                "POST", path_of("commands"), body, command_id=new_id(), timeout_seconds=seconds
            )
        except MusterError as error:
            for _, answered in some:
                _settle(answered, error)
            return
        outcomes = _OUTCOMES.validate_python(orjson.loads(reply.body)["items"])
        for (_, answered), outcome in zip(some, outcomes, strict=True):
            try:
                outcome.written()
            except MusterError as error:
                _settle(answered, error)
            else:
                _settle(answered, None)


_Waiting = list[tuple[PublishedCommand, "Future[None]"]]
"""Renewals that wait to be sent, each with who waits for its answer."""

_SHARED: Final["WeakKeyDictionary[AbstractEventLoop, dict[tuple[tuple[str, ...], str | None], SharedRenewals]]"] = (
    WeakKeyDictionary()
)


def _gather_seconds(seconds: float) -> float:
    # Not a share alone: of a long lease that would be longer than the silence after which a member counts as failed.
    return min(gather_seconds_max, seconds * _GATHER_SHARE)


def _settle(answered: "Future[None]", error: MusterError | None) -> None:
    if answered.done():
        return
    if error is None:
        answered.set_result(None)
    else:
        answered.set_exception(error)


@asynccontextmanager
async def shared_renewals(url: str | Sequence[str], cluster: str | None) -> AsyncIterator[SharedRenewals]:
    """The sender of the renewals of this event loop to these controllers: one for all who use it at the same time."""
    places = _SHARED.setdefault(asyncio.get_running_loop(), {})
    place = urls_of(url), cluster
    found = places.get(place)
    if found is None:
        found = places[place] = SharedRenewals(url, cluster)
        await found.open()
    found.members += 1
    try:
        yield found
    finally:
        found.members -= 1
        if found.members == 0:
            del places[place]
            await found.close()


class Renewals:
    """Renews until the membership is over. `on_lease(renewed_at, lease_seconds)` hears of each renewal of a primary that was
    accepted.
    """

    def __init__(self, progress: MemberProgress, words: Words, on_lease: OnLease | None) -> None:
        self._progress = progress
        self._words = words
        self._on_lease = on_lease
        self._claiming = asyncio.Lock()
        self._tries = 0

    async def run(self, shared: SharedRenewals) -> None:
        """Renew again and again, together with others of this process; soon, if no controller has answered."""
        async with asyncio.TaskGroup() as sent:
            while self._progress.standing.gone is None:
                next_at = elapsed_seconds() + conduct.renewal_seconds(self._progress.standing)
                answered = await self._renew(sent, shared)
                await self._progress.sleep(next_at if answered else self.again_at())

    async def _renew(self, sent: TaskGroup, shared: SharedRenewals) -> bool:
        """Renew once. Returns False if no controller has answered, and True if a primary's answer is late."""
        if self._claiming.locked():
            # A claim says all that a renewal does. Controllers that are too slow to answer it need no second request.
            async with self._claiming:
                return self._tries == 0
        standing = self._progress.standing
        epoch = conduct.renewal_epoch(standing)
        renewal = sent.create_task(self.renewed(epoch, shared))
        # A primary sends the next one beside one that is late: whichever is answered keeps its lease. Not one that was not
        # answered before, nor a standby, which has time.
        late = standing.lease_seconds * conduct.RENEW_SHARE if epoch is not None and self._tries == 0 else None
        done, _ = await asyncio.wait({renewal}, timeout=late)
        return not done or renewal.result()

    async def claimed(self, epoch: int) -> bool:
        """Renew at once as the primary that is to be. Returns False if no controller has answered."""
        async with self._claiming:
            return await self.renewed(epoch)

    def again_at(self) -> float:
        """When to try again, after as many tries without an answer, of claims too: the more, the later, within a second."""
        return elapsed_seconds() + backoff_seconds(max(0, self._tries - 1))

    async def renewed(self, epoch: int | None, shared: SharedRenewals | None = None) -> bool:
        """Renew once, as the primary of the epoch if there is one; alone and at once, or with others. Returns False if no
        controller has answered.
        """
        progress, row = self._progress, self._progress.standing.row
        seconds = row.lease_seconds if row is not None else lease_seconds_unknown
        # From before it was sent, and before it waits for others: the controller counts from its arrival, so the lease ends
        # here first.
        sent_at = elapsed_seconds()
        try:
            # What is answered later comes when the primary has begun to stop already.
            if shared is None:
                await self._words.renew(epoch, seconds * conduct.ANSWER_SHARE)
            else:
                await shared.renew(self._words, epoch, seconds * conduct.ANSWER_SHARE)
        except DISMISSED as error:
            progress.dismiss(error)
        except StaleEpoch as error:
            if epoch is not None:
                progress.happened(RenewalRefused(epoch, error.detail))
        except Transient as error:
            LOG.warning("%s was not heard by its group: %s", progress.standing.member, error.detail)
            self._tries += 1
            return False
        else:
            if epoch is not None:
                self._accepted(epoch, sent_at, seconds)
        self._tries = 0
        return True

    def _accepted(self, epoch: int, sent_at: float, seconds: float) -> None:
        self._progress.happened(Renewed(epoch, sent_at, seconds))
        standing = self._progress.standing
        if self._on_lease is not None and standing.epoch == epoch > standing.over:
            self._on_lease(standing.renewed_at, seconds)
