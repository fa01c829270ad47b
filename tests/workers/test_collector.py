"""The garbage collector while a lot is made that stays: off, but not for ever, and for as long as anyone wants it off."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from workers import collector as module
from workers.collector import Collector


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector() -> Iterator[Collector]:
    """One that nobody wants off yet; afterwards it runs, whatever a test did."""
    yield Collector()
    gc.enable()


def is_found(collector: Collector) -> bool:
    knot = weakref.ref(Knot())
    collector.now_and_then()
    return knot() is None


def test_it_runs_when_the_last_one_lets_it(collector: Collector) -> None:
    collector.off(by="recovery")
    collector.off(by="projector")
    collector.on(by="recovery")
    assert not gc.isenabled()
    collector.on(by="projector")
    assert gc.isenabled()


def test_who_lets_it_run_twice_does_not_speak_for_others(collector: Collector) -> None:
    collector.off(by="recovery")
    collector.off(by="projector")
    collector.on(by="recovery")
    collector.on(by="recovery")
    assert not gc.isenabled()


def test_off_it_looks_once_a_minute(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    collector.off(by="projector")
    assert not is_found(collector)
    monkeypatch.setattr(module, "LOOK_EVERY_SECONDS", 0.0)
    assert is_found(collector)


def test_on_it_is_left_to_itself(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_SECONDS", 0.0)
    assert not is_found(collector)
