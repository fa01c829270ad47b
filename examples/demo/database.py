"""PostgreSQL as a failover group: its primary is killed while a client commits rows, and none of these is missing."""

import time

from examples.demo.groups import proof_of_end, told
from examples.demo.stage import Stage, milliseconds
from examples.postgres.cluster import GROUP, MEMBERS, PostgresGroup, members_of


async def play(stage: Stage) -> None:
    """The chapter."""
    stage.screen.step(
        "A PostgreSQL primary and two standbys form a failover group, and a client commits rows all the time"
    )
    began = time.monotonic()
    group = PostgresGroup(stage.cluster.folder / "database", ",".join(stage.client.urls))
    async with members_of(group):
        row = await group.whole()
        stage.claims.figure("PostgreSQL: nothing → all three in sync", milliseconds(time.monotonic() - began))
        stage.claims.claim(
            "a primary serves, and every commit waits for both standbys, as the group has recorded",
            row.primary == MEMBERS[0] and row.in_sync == MEMBERS,
            told(row),
        )
        killed = await _kill(stage, group)
        await _claim_return(stage, group, killed)
        missing = await group.missing()
        stage.claims.claim(
            "no acknowledged row is missing at any of the three servers",
            not any(missing.values()) and {one.epoch for one in group.acknowledged} >= {1, 2},
            f"{len(group.acknowledged):,} acknowledged; missing: {missing}",
        )


async def _kill(stage: Stage, group: PostgresGroup) -> str:
    """SIGKILL to all of the primary's PostgreSQL while it takes rows. Returns who that was."""
    epoch = (await group.row()).epoch
    await group.first_after(epoch - 1)
    killed, at = await group.kill_primary()
    first = await group.first_after(epoch)
    stage.claims.figure("PostgreSQL: primary killed → first row acknowledged by another", milliseconds(first.at - at))
    row = await group.row()
    stage.claims.claim(
        "a standby leads after the killed primary, on the proof that its end was seen",
        row.primary != killed and await proof_of_end(stage, GROUP, epoch) == "seen",
        told(row),
    )
    return killed


async def _claim_return(stage: Stage, group: PostgresGroup, killed: str) -> None:
    began = time.monotonic()
    row = await group.whole()
    stage.claims.figure("PostgreSQL: … → the killed one in sync again", milliseconds(time.monotonic() - began))
    standby = await group.asked(killed, "SELECT pg_is_in_recovery()")
    stage.claims.claim(
        "the killed primary returns by itself, as a standby that commits wait for",
        standby is True and killed in row.in_sync and killed != row.primary,
        f"in sync: {', '.join(row.in_sync)}",
    )
