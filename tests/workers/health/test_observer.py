"""A reign's checks: those, and only those, that somebody must be asked for."""

from domain.registry.instance import Instance, evolve
from domain.registry.service import INITIAL
from tests.sample import HTTP, TTL, evolved, recorded, registered
from workers.health.checker import Checker
from workers.health.observer import HealthObserver

STREAM = "service/orders"


def instance(name: str, *checks: object) -> Instance:
    found = evolve(None, recorded(registered(name, checks=checks)))
    assert found is not None
    return found


def scheduled(checker: Checker) -> int:
    return checker.stats.scheduled


def test_a_reign_begins_with_the_checks_of_all_instances() -> None:
    checker = Checker(lambda _stream, _command: None)
    service = evolved(evolved(INITIAL, registered("a", checks=(HTTP,))), registered("b", checks=(TTL,)))
    HealthObserver(checker).began({STREAM: service, "cluster": object()})
    assert scheduled(checker) == 1


def test_an_instance_that_has_nothing_to_be_asked_any_more_is_not_asked() -> None:
    checker = Checker(lambda _stream, _command: None)
    checks = HealthObserver(checker)
    checks.changed([(STREAM, "a", instance("a", HTTP))])
    assert scheduled(checker) == 1
    checks.changed([(STREAM, "a", instance("a", TTL))])
    assert scheduled(checker) == 0


def test_an_instance_that_has_gone_is_not_asked() -> None:
    checker = Checker(lambda _stream, _command: None)
    checks = HealthObserver(checker)
    checks.changed([(STREAM, "a", instance("a", HTTP))])
    checks.changed([(STREAM, "a", None)])
    assert scheduled(checker) == 0


def test_nothing_is_asked_behind_the_reign() -> None:
    checker = Checker(lambda _stream, _command: None)
    checks = HealthObserver(checker)
    checks.changed([(STREAM, "a", instance("a", HTTP))])
    checks.changed([(STREAM, "b", instance("b", HTTP, TTL))])
    checks.ended()
    assert scheduled(checker) == 0
