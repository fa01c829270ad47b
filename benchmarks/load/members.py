"""Members of many groups in one process, as services have that host themselves (`muster.Membership`).

    python -m benchmarks.load.members URLS MEMBER GROUP ...

Prints `ready` once every one of them has joined its group and said that it is fit; when its standard input ends, JSON: how
often a member was promoted, the longest time between two accepted renewals of a primary, and its share of a core.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import orjson
import uvloop

from muster.group.membership import Membership

READY_SECONDS_MAX: Final = 120.0


class Hosted:
    """What one process knows of its members."""

    def __init__(self) -> None:
        self.promotions = 0
        self.longest_seconds = 0.0
        self._renewed_at: dict[str, tuple[int, float]] = {}

    def member(self, group: str, member: str, urls: Sequence[str]) -> Membership:
        """The member of this group."""

        async def promote(_: int) -> None:
            self.promotions += 1

        def renewed(at: float, _: float) -> None:
            epoch, before = self._renewed_at.get(group, (0, at))
            # The first renewal of an epoch stands behind none.
            if epoch == membership.epoch:
                self.longest_seconds = max(self.longest_seconds, at - before)
            self._renewed_at[group] = membership.epoch, at

        membership = Membership(group, member, url=urls, on_promote=promote, on_lease=renewed)
        return membership


async def run(urls: Sequence[str], member: str, groups: Sequence[str]) -> dict[str, float]:
    """Be this member of all the groups, until standard input ends."""
    hosted = Hosted()
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(hosted.member(group, member, urls)) for group in groups]
        async with asyncio.timeout(READY_SECONDS_MAX):
            while not all(_ready(one) for one in members):  # noqa: ASYNC110 once, at the beginning
                await asyncio.sleep(0.05)
        print("ready", flush=True)
        cpu, began = time.process_time(), time.monotonic()
        await asyncio.to_thread(sys.stdin.read)
        share = (time.process_time() - cpu) / (time.monotonic() - began) * 100
        promotions, longest = hosted.promotions, hosted.longest_seconds
    return {"promotions": promotions, "longest_renewal_ms": longest * 1e3, "core_percent": share}


def _ready(one: Membership) -> bool:
    row = one.row
    return row is not None and any((each.member, each.status) == (one.member, "active") for each in row.members)


if __name__ == "__main__":
    _, of_controllers, called, *of_groups = sys.argv
    told = uvloop.run(run(of_controllers.split(","), called, of_groups))
    print(orjson.dumps(told).decode())
