"""The renewals of a member: that it is there, and as the primary its lease."""

import asyncio
from collections.abc import Callable
from typing import Final

from muster.client.controllers.known import backoff_seconds
from muster.clock import elapsed_seconds
from muster.group import conduct
from muster.group.progress import DISMISSED, LOG, MemberProgress
from muster.group.standing import RenewalRefused, Renewed
from muster.group.words import Words
from muster.wire.error import StaleEpoch, Transient

OnLease = Callable[[float, float], None]
lease_seconds_unknown: Final = 2.0


class Renewals:
    """Renews until the membership is over. `on_lease(renewed_at, lease_seconds)` hears of each renewal of a primary that was
    accepted.
    """

    def __init__(self, progress: MemberProgress, words: Words, on_lease: OnLease | None) -> None:
        self._progress = progress
        self._words = words
        self._on_lease = on_lease

    async def run(self) -> None:
        """Renew again and again; soon, if no controller has answered."""
        tries = 0
        while self._progress.standing.gone is None:
            standing, sent_at = self._progress.standing, elapsed_seconds()
            if await self.renewed(conduct.renewal_epoch(standing)):
                tries, again_at = 0, sent_at + conduct.renewal_seconds(standing)
            else:
                tries, again_at = tries + 1, elapsed_seconds() + backoff_seconds(tries)
            await asyncio.sleep(max(0.0, again_at - elapsed_seconds()))

    async def renewed(self, epoch: int | None) -> bool:
        """Renew once, as the primary of the epoch if there is one. Returns False if no controller has answered."""
        progress, row = self._progress, self._progress.standing.row
        seconds = row.lease_seconds if row is not None else lease_seconds_unknown
        # From before it was sent: the controller counts from its arrival, so the lease ends here first.
        sent_at = elapsed_seconds()
        try:
            # A quarter of the lease: within half of it, after which the member would have to stop, there is another try.
            await self._words.renew(epoch, seconds / 4)
        except DISMISSED as error:
            progress.dismiss(error)
        except StaleEpoch as error:
            if epoch is not None:
                progress.happened(RenewalRefused(epoch, error.detail))
        except Transient as error:
            LOG.warning("%s was not heard by its group: %s", progress.standing.member, error.detail)
            return False
        else:
            if epoch is not None:
                self._accepted(epoch, sent_at, seconds)
        return True

    def _accepted(self, epoch: int, sent_at: float, seconds: float) -> None:
        self._progress.happened(Renewed(epoch, sent_at, seconds))
        standing = self._progress.standing
        if self._on_lease is not None and standing.epoch == epoch > standing.over:
            self._on_lease(standing.renewed_at, seconds)
