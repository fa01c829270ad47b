"""Checks that flap: their recoveries are held for longer and longer, within bounds, and their failures never are."""

from itertools import pairwise
from math import inf

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from domain.registry.service import RegisterInstance
from muster.wire.registry.spec import Spec
from tests.workers.health.test_checker import Registry, Target, until
from workers.health import streak as module
from workers.health.streak import CALM_SECONDS, Flaps, fallen, hold_seconds_max


def after(*instants: float, most_seconds: float = inf) -> Flaps:
    """The flaps of a check that fell at these instants."""
    found = Flaps()
    for at in instants:
        found = fallen(found, at, most_seconds)
    return found


class Flapping(Target):
    """A target that fails every other time, as long as it is `moody`."""

    moody = True

    async def answer(self, request: web.Request) -> web.Response:
        self.status = 503 if self.moody and len(self.asked) % 2 else 200
        return await super().answer(request)


def test_a_few_falls_are_no_flapping():
    assert not after(0, 1, 2, 3).holds(3)
    assert not after(0, 20, 40, 60, 80, 100, 120, 140, 160).holds(160), "three in a minute, for ever"


def test_the_fifth_fall_within_a_minute_holds_the_recovery():
    found = after(0, 1, 2, 3, 4)
    assert found.holds(13.9)
    assert not found.holds(14)
    assert found.told("HTTP 503") == "flapping: held unhealthy for 10 s: HTTP 503"


def test_each_fall_after_that_holds_it_for_twice_as_long_up_to_a_bound():
    found, holds, at = after(0, 1, 2, 3, 4), [], 4.0
    for _ in range(5):
        at = found.until + 1
        found = fallen(found, at, inf)
        holds.append(found.hold_seconds)
    assert holds == [20, 40, 60, 60, 60]


def test_a_minute_without_a_fall_ends_it():
    found = after(0, 1, 2, 3, 4)
    calm = fallen(found, found.until + CALM_SECONDS)
    assert not calm.holds(found.until + CALM_SECONDS)
    assert calm.told("HTTP 503") == "HTTP 503"


def test_nobody_is_removed_for_being_held():
    assert after(0, 1, 2, 3, 4, most_seconds=2.5).hold_seconds == 2.5


def test_the_cause_stays_as_short_as_a_cause_may_be():
    assert len(after(0, 1, 2, 3, 4).told("x" * 1_024) or "") == 1_024


@given(st.lists(st.floats(0.0, 200.0), max_size=200))
def test_whoever_falls_as_often_as_he_can_falls_little_in_the_long_run(pauses: list[float]):
    """A fall needs a recovery before it, and that is held."""
    found, at, fell = Flaps(), 0.0, []
    for pause in pauses:
        at = max(at, found.until) + pause
        found = fallen(found, at)
        fell.append(at)
        assert found.hold_seconds <= hold_seconds_max
    for first, sixth in zip(fell, fell[5:], strict=False):
        assert sixth - first >= 10
    assert all(later >= earlier for earlier, later in pairwise(fell))


@pytest.fixture
async def flapping():
    target = Flapping()
    await target.start()
    yield target
    await target.stop()


async def test_a_check_that_flaps_is_held_unhealthy_and_says_so(flapping: Flapping):
    registry = Registry()
    registry.register(flapping.check())
    async with registry.running():
        await until(lambda: registry.statuses().count("unhealthy") == 5)
        assert (registry.instance().cause or "").startswith("flapping: held unhealthy for 10 s: HTTP 503")
        told = len(registry.observed)
        await registry.runs(20)
        assert len(registry.observed) == told, "neither its failures nor its recoveries make events"
        assert registry.instance().health == "unhealthy"


async def test_what_has_recovered_is_told_when_the_hold_is_over(flapping: Flapping, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "FIRST_HOLD_SECONDS", 1.0)
    registry = Registry()
    registry.register(flapping.check())
    async with registry.running():
        await until(lambda: registry.statuses().count("unhealthy") == 5)
        flapping.moody = False
        await until(lambda: registry.instance().health == "healthy")
        assert registry.instance().cause == "HTTP 200"


async def test_other_settings_do_not_end_a_hold(flapping: Flapping):
    registry = Registry()
    registry.register(flapping.check())
    async with registry.running():
        await until(lambda: registry.statuses().count("unhealthy") == 5)
        flapping.moody = False
        registry.register(flapping.check(interval_seconds=0.2))
        told = len(registry.observed)
        await registry.runs(5)
        assert len(registry.observed) == told


async def test_a_fall_that_the_log_does_not_have_yet_counts_once(flapping: Flapping):
    registry = Registry()
    registry.register(flapping.check())
    async with registry.running():
        await until(lambda: registry.instance().health == "healthy")
        registry.follows = False
        await until(lambda: registry.statuses().count("unhealthy") >= 6)
        assert not any((command.cause or "").startswith("flapping") for command in registry.observed)


async def test_who_is_removed_after_a_while_is_held_for_half_of_it(flapping: Flapping):
    registry = Registry()
    spec = Spec(address="127.0.0.1", port=1, checks=(flapping.check(),), deregister_after_seconds=8)
    registry.tell(RegisterInstance(instance="o-1", spec=spec))
    async with registry.running():
        await until(lambda: registry.statuses().count("unhealthy") == 5)
        assert (registry.instance().cause or "").startswith("flapping: held unhealthy for 4 s: HTTP 503")
