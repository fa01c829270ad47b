"""What every store promises that can be driven through a move, as tests: a class of them that runs on each driver.

A store joins by a fixture `nodes`: three started nodes that reach each other, each with a driver, and with the few things
that the tests do past it (`tests.drivers.driver_stage.Node`). `docs/drivers.md` shows how.
"""

import asyncio
from contextlib import suppress

import pytest

from muster.wire.error import (
    ChecksumMismatch,
    MusterError,
    NotOwner,
    Refused,
    ShardNotFound,
    ShardOverflow,
    StaleEpoch,
    Transient,
)
from muster.wire.shards.driver import CopyLimits, Extent, ShardLimits
from tests.drivers.driver_stage import (
    ELSEWHERE,
    LIMITS,
    OTHER,
    QUICKLY,
    SHARD,
    SLOWLY,
    Heard,
    Node,
    Nodes,
    Writers,
    big_value_bytes,
    big_values,
    copied,
    copying,
    eventually,
    fill,
    handed_over,
    held,
    moved,
    opened,
    restart,
    serves,
    unheard,
)


class OwnerContract:
    """What the holder of a shard promises."""

    async def test_an_opened_shard_is_empty_and_serves(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await node.driver.open(SHARD, 1, LIMITS)

        assert (await node.extent(SHARD)).records == 0
        assert await serves(node)

    async def test_opening_again_leaves_what_was_written(self, nodes: Nodes) -> None:
        node, *_ = nodes
        pairs = await opened(node)

        await node.driver.open(SHARD, 1, LIMITS)
        await restart(node)
        await node.driver.open(SHARD, 1, LIMITS)

        assert await held(node, pairs) == pairs

    async def test_opening_does_not_lift_a_fence(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await opened(node)
        await node.driver.fence(SHARD, 1)

        with suppress(Refused):
            await node.driver.open(SHARD, 1, LIMITS)

        assert not await serves(node)

    async def test_what_was_acknowledged_outlives_a_crash(self, nodes: Nodes) -> None:
        node, *_ = nodes
        pairs = await opened(node)
        before = await node.extent(SHARD)

        await restart(node)

        assert await held(node, pairs) == pairs
        assert await node.extent(SHARD) == before

    async def test_a_repeated_write_gets_its_first_answer(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await node.driver.open(SHARD, 1, LIMITS)
        first = await node.put(SHARD, "a", b"1", "w1")
        await node.put(SHARD, "a", b"2")
        await restart(node)

        assert await node.put(SHARD, "a", b"1", "w1") == first
        assert await node.get(SHARD, "a") == b"2"

    async def test_a_value_over_the_limit_is_refused(self, nodes: Nodes) -> None:
        node, other, _ = nodes
        await node.driver.open(SHARD, 1, ShardLimits(value_bytes_max=10))
        await node.put(SHARD, "a", bytes(10))
        with pytest.raises(ShardOverflow):
            await node.put(SHARD, "a", bytes(11))

        await copied(node, other)
        await node.driver.fence(SHARD, 1)
        await other.driver.drain(SHARD, node.location, None)
        await other.driver.activate(SHARD, 2, ShardLimits(value_bytes_max=20))
        await restart(other)
        await other.put(SHARD, "a", bytes(20))
        with pytest.raises(ShardOverflow):
            await other.put(SHARD, "a", bytes(21))

    async def test_shards_on_a_node_are_apart(self, nodes: Nodes) -> None:
        node, *_ = nodes
        pairs = await opened(node)
        await node.driver.open(OTHER, 1, LIMITS)
        await node.put(OTHER, "key-0001", b"another")
        await node.driver.fence(SHARD, 1)
        await node.driver.drop(SHARD, 1)

        assert await held(node, {"key-0001": b""}, OTHER) == {"key-0001": b"another"}
        assert pairs["key-0001"] != b"another"

    async def test_a_fence_asked_again_answers_alike(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await opened(node)

        final = await node.driver.fence(SHARD, 1)

        assert final == await node.extent(SHARD)
        assert await node.driver.fence(SHARD, 1) == final
        await restart(node)
        assert await node.driver.fence(SHARD, 1) == final

    async def test_a_fence_holds_across_a_crash(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await opened(node)
        await node.driver.fence(SHARD, 1)
        assert not await serves(node)

        await restart(node)

        assert not await serves(node)

    async def test_nothing_is_acknowledged_behind_a_fence(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await opened(node)
        async with Writers(node, 16) as writers:
            final = await node.driver.fence(SHARD, 1)
            counted = len(writers.positions)
            await writers.end()

        assert max(writers.positions) <= final.position
        assert len(writers.positions) - counted <= writers.count, "answers under way, and no more"
        assert await node.extent(SHARD) == final
        assert writers.refused == writers.count

    async def test_a_fence_of_an_older_epoch_is_refused(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.activate(SHARD, 2, LIMITS)

        with pytest.raises(StaleEpoch) as refused:
            await node.driver.fence(SHARD, 1)

        assert refused.value.context["epoch"] == 2
        assert await serves(node)

    async def test_a_shard_that_is_not_here_cannot_be_fenced(self, nodes: Nodes) -> None:
        with pytest.raises(ShardNotFound):
            await nodes[0].driver.fence(SHARD, 1)

    async def test_after_an_abort_the_source_serves_again(self, nodes: Nodes) -> None:
        node, *_ = nodes
        pairs = await opened(node)
        final = await node.driver.fence(SHARD, 1)

        await node.driver.activate(SHARD, 2, LIMITS)
        await node.driver.activate(SHARD, 2, LIMITS)
        assert await node.put(SHARD, "later", b"") == final.position + 1
        await restart(node)
        await node.driver.activate(SHARD, 2, LIMITS)

        assert await held(node, pairs) == pairs
        assert await serves(node)

    async def test_an_activation_of_before_the_fence_does_not_lift_it(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await opened(node)
        await node.driver.fence(SHARD, 1)

        with pytest.raises(StaleEpoch):
            await node.driver.activate(SHARD, 1, LIMITS)

        assert not await serves(node)

    async def test_an_activation_of_an_older_epoch_is_refused(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.activate(SHARD, 3, LIMITS)

        with pytest.raises(StaleEpoch):
            await node.driver.activate(SHARD, 2, LIMITS)

    async def test_without_a_copy_there_is_nothing_to_activate(self, nodes: Nodes) -> None:
        node, *_ = nodes
        with pytest.raises(ShardNotFound):
            await node.driver.activate(SHARD, 1, LIMITS)
        await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.drop(SHARD, 1)
        with pytest.raises(ShardNotFound):
            await node.driver.activate(SHARD, 2, LIMITS)

    async def test_a_retired_shard_says_who_owns_it(self, nodes: Nodes) -> None:
        node, other, _ = nodes
        await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.retire(SHARD, 2, ELSEWHERE)
        await node.driver.retire(SHARD, 2, ELSEWHERE)
        await other.driver.retire(SHARD, 2, ELSEWHERE)

        for asked in (node, other):
            await restart(asked)
            for answer in (asked.get(SHARD, "key-0001"), asked.put(SHARD, "key-0001", b"")):
                with pytest.raises(NotOwner) as refused:
                    await answer
                told = refused.value.context
                assert (told["epoch"], told["owner"], told["address"]) == (2, ELSEWHERE.node, ELSEWHERE.address)

    async def test_a_retirement_of_an_older_epoch_is_refused(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.activate(SHARD, 3, LIMITS)

        with pytest.raises(StaleEpoch):
            await node.driver.retire(SHARD, 2, ELSEWHERE)

        assert await serves(node)

    async def test_what_is_retired_does_not_serve_again(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.retire(SHARD, 2, ELSEWHERE)

        with pytest.raises(Refused):
            await node.driver.activate(SHARD, 3, LIMITS)

        assert not await serves(node)

    async def test_what_is_retired_does_not_come_back_with_its_old_epoch(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.retire(SHARD, 2, ELSEWHERE)
        await restart(node)

        for late in (
            node.driver.open(SHARD, 1, LIMITS),
            node.driver.activate(SHARD, 1, LIMITS),
            node.driver.prepare(SHARD, 1),
        ):
            with pytest.raises(StaleEpoch) as refused:
                await late
            assert refused.value.context["epoch"] == 2
        assert not await serves(node)

    async def test_what_is_dropped_is_gone_and_stays_gone(self, nodes: Nodes) -> None:
        node, *_ = nodes
        pairs = await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.retire(SHARD, 2, ELSEWHERE)

        await node.driver.drop(SHARD, 2)
        await node.driver.drop(SHARD, 2)
        await restart(node)

        with pytest.raises(NotOwner):
            await node.get(SHARD, "key-0001")
        with pytest.raises(StaleEpoch):
            await node.driver.open(SHARD, 1, LIMITS)
        await node.driver.open(SHARD, 3, LIMITS)
        assert await held(node, pairs) == dict.fromkeys(pairs)

    async def test_dropping_what_is_not_here_is_fine(self, nodes: Nodes) -> None:
        node, *_ = nodes
        await node.driver.drop(SHARD, 7)

        await node.driver.open(SHARD, 8, LIMITS)
        assert await serves(node)

    async def test_a_copy_that_serves_with_a_later_epoch_is_not_dropped(self, nodes: Nodes) -> None:
        node, *_ = nodes
        pairs = await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.activate(SHARD, 3, LIMITS)

        with pytest.raises(StaleEpoch):
            await node.driver.drop(SHARD, 2)

        assert await held(node, pairs) == pairs

    @pytest.mark.parametrize("turns", [1, 3, 8])
    async def test_an_interrupted_drop_is_finished(self, nodes: Nodes, turns: int) -> None:
        node, *_ = nodes
        pairs = await opened(node, 1_200)
        await node.driver.fence(SHARD, 1)
        await node.driver.retire(SHARD, 2, ELSEWHERE)

        dropping = asyncio.create_task(node.driver.drop(SHARD, 2))
        for _ in range(turns):
            await asyncio.sleep(0)
        await node.kill()
        dropping.cancel()
        await asyncio.gather(dropping, return_exceptions=True)
        await node.start()
        await node.driver.drop(SHARD, 2)

        await node.driver.prepare(SHARD, 3)
        assert (await node.extent(SHARD)).records == 0
        await node.driver.drop(SHARD, 3)
        await node.driver.open(SHARD, 4, LIMITS)
        assert await held(node, pairs) == dict.fromkeys(pairs)


class TargetContract:
    """What the receiver of a shard promises."""

    async def test_a_prepared_copy_does_not_serve(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await target.driver.prepare(SHARD, 2)
        assert not await serves(target)

        await copied(source, target)
        assert not await serves(target)
        await restart(target)
        assert not await serves(target)

    async def test_one_that_serves_is_not_prepared(self, nodes: Nodes) -> None:
        node, *_ = nodes
        pairs = await opened(node)

        for epoch in (1, 2):
            with pytest.raises(StaleEpoch):
                await node.driver.prepare(SHARD, epoch)

        assert await held(node, pairs) == pairs

    async def test_preparing_again_keeps_what_has_come(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        extent = await copied(source, target)

        await target.driver.prepare(SHARD, 2)

        assert await target.extent(SHARD) == extent

    async def test_preparing_for_a_later_epoch_starts_anew(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await copied(source, target)

        await target.driver.prepare(SHARD, 3)

        assert (await target.extent(SHARD)).records == 0
        with pytest.raises(StaleEpoch):
            await target.driver.prepare(SHARD, 2)

    async def test_a_move_takes_everything_along(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        pairs = await opened(source)
        await source.delete(SHARD, "key-0007")

        final = await moved(source, target)

        assert await held(target, pairs) == {**pairs, "key-0007": None}
        assert final.records == len(pairs) - 1
        with pytest.raises(NotOwner) as refused:
            await source.get(SHARD, "key-0001")
        assert refused.value.context["address"] == target.location.address

    async def test_an_empty_shard_can_be_moved(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source, 0)

        final = await moved(source, target)

        assert (final.position, final.records) == (0, 0)
        assert await serves(target)

    async def test_a_shard_moves_on_and_home_again(self, nodes: Nodes) -> None:
        pairs = await opened(nodes[0])
        for epoch, (source, target) in enumerate(zip(nodes, (*nodes[1:], nodes[0]), strict=True), 2):
            await moved(source, target, epoch=epoch)
            key = f"written-at-{epoch}"
            pairs[key] = b"new"
            await target.put(SHARD, key, b"new")

        assert await held(nodes[0], pairs) == pairs

    async def test_a_shard_that_has_just_come_moves_on(self, nodes: Nodes) -> None:
        first, second, third = nodes
        pairs = await opened(first)
        await moved(first, second)
        await moved(second, third, epoch=3)

        assert await held(third, pairs) == pairs

    async def test_a_shard_that_has_just_come_is_verified_although_it_was_written_since(self, nodes: Nodes) -> None:
        first, second, third = nodes
        await opened(first)
        await moved(first, second)
        await third.driver.prepare(SHARD, 3)
        await third.driver.copy(SHARD, second.location, QUICKLY, unheard)
        await second.put(SHARD, "behind the copy", b"value")

        verified = await third.driver.verify(SHARD, second.location)

        assert verified == await third.driver.catch_up(SHARD, second.location, QUICKLY, unheard)

    async def test_what_is_written_meanwhile_comes_along(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source, big_values, big_value_bytes)
        await target.driver.prepare(SHARD, 2)
        async with Writers(source) as writers:
            await target.driver.copy(SHARD, source.location, SLOWLY, unheard)
            await writers.go_on()
            await target.driver.catch_up(SHARD, source.location, QUICKLY, unheard)
            await writers.go_on()
            await target.driver.verify(SHARD, source.location)
            await writers.go_on()
            final = await handed_over(source, target)
            await writers.end()

        assert await target.extent(SHARD) == final
        found = {key: await target.get(SHARD, key) for key in writers.acknowledged}
        assert found == writers.acknowledged

    async def test_a_copy_tells_how_far_it_is(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source, big_values, big_value_bytes)
        await target.driver.prepare(SHARD, 2)
        heard = Heard()

        extent = await target.driver.copy(SHARD, source.location, SLOWLY, heard)

        told = [progress.bytes for progress in heard.progress]
        assert len(told) > 2
        assert told == sorted(told)
        assert heard.progress[-1].bytes_total == told[-1] == extent.bytes

    async def test_a_slow_copy_takes_its_time(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source, big_values, big_value_bytes)
        await target.driver.prepare(SHARD, 2)
        began = asyncio.get_running_loop().time()

        extent = await target.driver.copy(SHARD, source.location, SLOWLY, unheard)

        assert SLOWLY.bytes_per_second is not None
        seconds = asyncio.get_running_loop().time() - began
        assert seconds >= 0.5 * extent.bytes / SLOWLY.bytes_per_second

    async def test_a_cancelled_copy_goes_on_where_it_was(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source, big_values, big_value_bytes)
        await target.driver.prepare(SHARD, 2)
        async with copying(source, target):
            pass

        await self.copied_again_with_less(source, target)

    async def test_a_copy_goes_on_where_a_crash_of_the_target_left_it(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source, big_values, big_value_bytes)
        await target.driver.prepare(SHARD, 2)
        async with copying(source, target):
            await target.kill()
        await target.start()

        await self.copied_again_with_less(source, target)

    async def test_a_copy_goes_on_where_a_crash_of_the_source_left_it(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source, big_values, big_value_bytes)
        await target.driver.prepare(SHARD, 2)
        async with copying(source, target):
            await source.kill()
        await source.start()

        await self.copied_again_with_less(source, target)

    async def copied_again_with_less(self, source: Node, target: Node) -> None:
        """The source has changed since; the copy ends with all of it, and was not sent everything again."""
        before = source.sent_bytes()
        await source.put(SHARD, "key-0001", b"changed behind the checkpoint")
        await source.delete(SHARD, "key-0002")
        await source.put(SHARD, "key-9999", b"new")

        await target.driver.prepare(SHARD, 2)
        await target.driver.copy(SHARD, source.location, QUICKLY, unheard)
        verified = await target.driver.verify(SHARD, source.location)
        extent = await target.driver.catch_up(SHARD, source.location, QUICKLY, unheard)

        assert verified == extent == await source.extent(SHARD)
        assert source.sent_bytes() - before < 0.75 * extent.bytes
        await handed_over(source, target)
        assert await target.get(SHARD, "key-0001") == b"changed behind the checkpoint"
        assert await target.get(SHARD, "key-0002") is None

    async def test_a_finished_copy_is_not_sent_again(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source, big_values, big_value_bytes)
        await copied(source, target)
        await restart(target)
        before = source.sent_bytes()

        await copied(source, target)

        assert source.sent_bytes() - before < big_value_bytes

    async def test_a_source_that_is_away_is_a_matter_of_trying_again(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        pairs = await opened(source)
        await target.driver.prepare(SHARD, 2)
        await source.kill()
        with pytest.raises(Transient):
            await target.driver.copy(SHARD, source.location, QUICKLY, unheard)
        with pytest.raises(Transient):
            await target.driver.catch_up(SHARD, source.location, QUICKLY, unheard)
        with pytest.raises(Transient):
            await target.driver.verify(SHARD, source.location)
        with pytest.raises(Transient):
            await target.driver.drain(SHARD, source.location, None)

        await source.start()
        await moved(source, target)
        assert await held(target, pairs) == pairs

    async def test_nothing_is_copied_from_one_who_is_not_the_owner(self, nodes: Nodes) -> None:
        source, target, other = nodes
        await opened(source)
        await source.driver.fence(SHARD, 1)
        await source.driver.retire(SHARD, 2, ELSEWHERE)
        await target.driver.prepare(SHARD, 3)
        with pytest.raises(NotOwner):
            await target.driver.copy(SHARD, source.location, QUICKLY, unheard)
        with pytest.raises(Refused):
            await target.driver.copy(SHARD, other.location, QUICKLY, unheard)

    async def test_without_a_prepared_copy_nothing_is_pulled(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        for step in (
            target.driver.copy(SHARD, source.location, QUICKLY, unheard),
            target.driver.catch_up(SHARD, source.location, QUICKLY, unheard),
            target.driver.verify(SHARD, source.location),
            target.driver.drain(SHARD, source.location, None),
        ):
            with pytest.raises(ShardNotFound):
                await step

    async def test_who_has_caught_up_goes_on_following(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await copied(source, target)

        await source.put(SHARD, "later", b"value")

        async def followed() -> bool:
            return await target.extent(SHARD) == await source.extent(SHARD)

        await eventually(followed)

    async def test_catching_up_tells_how_far_behind_it_is(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await target.driver.prepare(SHARD, 2)
        await target.driver.copy(SHARD, source.location, QUICKLY, unheard)
        await fill(source, 50)
        heard = Heard()

        extent = await target.driver.catch_up(SHARD, source.location, CopyLimits(lag_records_max=0), heard)

        assert extent == await source.extent(SHARD)
        assert heard.progress[-1].lag_records == 0

    async def test_a_follower_goes_on_after_a_crash_of_either(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        for node in (target, source):
            await copied(source, target)
            await restart(node)
            await fill(source, 30, 50)
        await copied(source, target)

        assert await target.driver.verify(SHARD, source.location) == await source.extent(SHARD)

    async def test_a_copy_that_is_right_is_verified(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await copied(source, target)

        verified = await target.driver.verify(SHARD, source.location)

        assert verified == await source.extent(SHARD) == await target.driver.verify(SHARD, source.location)

    async def test_a_flipped_bit_in_the_copy_is_found(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await copied(source, target)
        await target.damage(SHARD, "key-0013")

        with pytest.raises(ChecksumMismatch):
            await target.driver.verify(SHARD, source.location)
        await source.put(SHARD, "later", b"value")
        with pytest.raises(ChecksumMismatch):
            await target.driver.verify(SHARD, source.location)

        await target.driver.drop(SHARD, 2)
        await copied(source, target)
        await target.driver.verify(SHARD, source.location)

    async def test_half_a_copy_is_not_activated(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source, big_values, big_value_bytes)
        await target.driver.prepare(SHARD, 2)
        with pytest.raises(Refused):
            await target.driver.activate(SHARD, 2, LIMITS)
        async with copying(source, target):
            pass

        with pytest.raises(Refused):
            await target.driver.activate(SHARD, 2, LIMITS)

        assert not await serves(target)

    async def test_draining_pulls_what_nobody_followed(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await copied(source, target)
        await restart(target)
        await fill(source, 200, 8 << 10)

        await handed_over(source, target)

    async def test_draining_goes_to_the_sources_end(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await copied(source, target)
        await fill(source, 200, 50)
        final = await source.driver.fence(SHARD, 1)

        assert await target.driver.drain(SHARD, source.location, final) == final
        assert await target.driver.drain(SHARD, source.location, None) == final
        await restart(target)
        assert await target.driver.drain(SHARD, source.location, final) == final
        await source.kill()
        assert await target.driver.drain(SHARD, source.location, final) == final

    async def test_a_source_that_is_not_fenced_has_no_end(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await copied(source, target)

        with pytest.raises(Transient):
            await target.driver.drain(SHARD, source.location, None)

    async def test_another_end_than_the_fences_is_refused(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await copied(source, target)
        final = await source.driver.fence(SHARD, 1)
        wrong_digest = f"{int(final.digest, 16) ^ 1:0{len(final.digest)}x}"

        for wrong in (
            Extent(final.position, wrong_digest, final.records, final.bytes),
            Extent(final.position - 1, final.digest, final.records, final.bytes),
        ):
            with pytest.raises(ChecksumMismatch):
                await target.driver.drain(SHARD, source.location, wrong)

    async def test_write_ids_travel_with_the_shard(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        early = await source.put(SHARD, "early", b"1", "w-early")
        gone = await source.delete(SHARD, "key-0005", "w-gone")
        await copied(source, target)
        later = await source.put(SHARD, "later", b"1", "w-later")
        await handed_over(source, target)
        await target.put(SHARD, "early", b"2")
        await restart(target)

        assert await target.put(SHARD, "early", b"1", "w-early") == early
        assert await target.put(SHARD, "later", b"1", "w-later") == later
        assert await target.delete(SHARD, "key-0005", "w-gone") == gone
        assert await target.get(SHARD, "early") == b"2"

    async def test_the_new_owner_counts_on_and_outlives_a_crash(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        pairs = await opened(source)
        final = await moved(source, target)

        assert await target.put(SHARD, "next", b"") == final.position + 1
        await restart(target)

        assert await target.put(SHARD, "next", b"") == final.position + 2
        assert await held(target, pairs) == pairs

    async def test_late_steps_of_a_move_leave_its_result_alone(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        await opened(source)
        await copied(source, target)
        final = await source.driver.fence(SHARD, 1)
        await target.driver.drain(SHARD, source.location, final)
        await target.driver.activate(SHARD, 2, LIMITS)
        await target.put(SHARD, "key-0001", b"after the move")
        before = await target.extent(SHARD)

        await self.late_steps_are_refused(source, target)
        await source.driver.retire(SHARD, 2, target.location)
        await self.late_steps_are_refused(source, target)
        for late in (source.driver.fence(SHARD, 1), source.driver.activate(SHARD, 1, LIMITS)):
            with pytest.raises(Refused):
                await late
        await target.driver.activate(SHARD, 2, LIMITS)
        await source.driver.retire(SHARD, 2, target.location)
        await source.driver.drop(SHARD, 2)

        assert await target.extent(SHARD) == before
        assert await target.get(SHARD, "key-0001") == b"after the move"

    async def late_steps_are_refused(self, source: Node, target: Node) -> None:
        for late in (
            target.driver.prepare(SHARD, 2),
            target.driver.copy(SHARD, source.location, QUICKLY, unheard),
            target.driver.catch_up(SHARD, source.location, QUICKLY, unheard),
            target.driver.verify(SHARD, source.location),
            target.driver.drain(SHARD, source.location, None),
        ):
            with pytest.raises(Refused):
                await late

    async def test_an_aborted_move_leaves_nothing_and_can_be_tried_again(self, nodes: Nodes) -> None:
        source, target, _ = nodes
        pairs = await opened(source)
        await copied(source, target)
        await source.driver.fence(SHARD, 1)
        await source.driver.activate(SHARD, 2, LIMITS)
        await target.driver.drop(SHARD, 2)
        with pytest.raises(MusterError):
            await target.extent(SHARD)
        await source.put(SHARD, "after the abort", b"")

        await moved(source, target, epoch=3)

        assert await held(target, pairs) == pairs
        assert await target.get(SHARD, "after the abort") == b""


class DriverContract(OwnerContract, TargetContract):
    """All promises of `muster.wire.shards.driver.ShardDriver`."""
