"""What clients say that they saw of the instances of services: their newest words, and what these come to.

A word is a claim. None of them renews anything or takes anybody out: they are added up for people to read, and weighed where the
checks of a service are in doubt (`domain.registry.doubt.opinion`). There many observers of one host count as one, since they
share what can be wrong between them and the instances; so one host alone, however many names it takes, is one voice.

Kept are the newest words of each observer, for 30 s, of instances that are there. All of it is bounded, and of one host's
observers only some are taken, so that no host fills the room that others need.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from domain.telemetry.seen_calls import CallSum, Incarnation, SeenCalls
from muster.wire.telemetry.loads import ClientsWord
from muster.wire.telemetry.observations import Observations

recent_seconds: Final = 10.0
"""What was said longer ago is no evidence of now."""

kept_seconds_max: Final = 30.0
observers_service_max: Final = 1_000
observers_host_max: Final = 64
words_max: Final = 200_000
FAILING_MIN: Final = 3
"""So many calls in a row that failed are a failing instance; fewer are, where no more were made."""


class _Word(NamedTuple):
    """What an observer said last of an instance, and when."""

    at: float
    incarnation: int
    attempts: int
    failures: int
    failing: int
    latency_seconds: float | None


class _Observer:
    """An observer of a service: its host, when it reported last and about how many seconds, and its words by instance."""

    __slots__ = ("at", "host", "seconds", "words")

    def __init__(self, host: str) -> None:
        self.host = host
        self.at = self.seconds = 0.0
        self.words: dict[str, _Word] = {}

    def newest(self) -> Iterator[tuple[str, _Word]]:
        """What its last report says; of earlier ones are the words about instances that it did not call since."""
        return ((name, word) for name, word in self.words.items() if word.at == self.at)


class ObservedCalls:
    """The words of the observers of all services. Seconds are those of any one clock that only grows."""

    def __init__(self) -> None:
        self._services: dict[str, dict[str, _Observer]] = {}
        self._words = 0
        self._swept_at = 0.0

    def take(self, message: Observations, now: float, incarnation_of: Callable[[str], int | None]) -> int:
        """Take in a message, but for what it says of incarnations that are not there; of how many instances it was taken."""
        if now - self._swept_at > recent_seconds:
            self._sweep(now)
        here = [one for one in message.observed if incarnation_of(one.instance) == one.incarnation]
        observer = self._observer(message) if here else None
        if observer is None:
            return 0
        observer.at, observer.seconds = now, message.seconds
        taken = 0
        for name, incarnation, attempts, failures, failing, latency in here:
            if name not in observer.words:
                if self._words >= words_max:
                    continue
                self._words += 1
            observer.words[name] = _Word(now, incarnation, attempts, failures, failing, latency)
            taken += 1
        return taken

    def _observer(self, message: Observations) -> _Observer | None:
        """The observer of this name; None: there is no room for it. Whoever is there already goes on being heard."""
        observers = self._services.setdefault(message.service, {})
        found = observers.get(message.observer)
        if found is not None:
            # A name on another host is another process: what is said last counts, for that host alone.
            found.host = message.host
            return found
        beside = sum(one.host == message.host for one in observers.values())
        if len(observers) >= observers_service_max or beside >= observers_host_max:
            return None
        return observers.setdefault(message.observer, _Observer(message.host))

    def services(self) -> Iterator[str]:
        """The services of which something was said, which may be old by now."""
        return iter(self._services)

    def calls(self, service: str, now: float) -> SeenCalls | None:
        """What the clients of the service saw in their last reports; None: nobody has reported in the last 10 s."""
        together, observers = CallSum(), 0
        for observer in self._reporting(service, now):
            observers += 1
            for _, word in observer.newest():
                together.add(word.attempts, word.failures, word.latency_seconds, observer.seconds)
        return together.seen_by(observers) if observers else None

    def instances(self, service: str, now: float) -> dict[Incarnation, SeenCalls]:
        """The same of each instance that was called, by name and incarnation."""
        sums: dict[Incarnation, CallSum] = {}
        for observer in self._reporting(service, now):
            for name, word in observer.newest():
                calls = sums.setdefault((name, word.incarnation), CallSum())
                calls.add(word.attempts, word.failures, word.latency_seconds, observer.seconds)
        # An observer has one word of an instance, so there are as many of them as words.
        return {instance: calls.seen_by(calls.words) for instance, calls in sums.items()}

    def _reporting(self, service: str, now: float) -> Iterator[_Observer]:
        """Who has reported in the last 10 s."""
        observers = self._services.get(service, {}).values()
        return (observer for observer in observers if now - observer.at <= recent_seconds)

    def word(self, service: str, instance: str, incarnation: int, since: float, now: float) -> ClientsWord:
        """What clients say of this incarnation, whose checks are in doubt since then, host by host."""
        hosts, answering, failing = set[str](), set[str](), set[str]()
        for observer in self._services.get(service, {}).values():
            word = observer.words.get(instance)
            if word is None or word.incarnation != incarnation or now - word.at > recent_seconds:
                continue
            hosts.add(observer.host)
            # What was said before the doubt began tells who calls the instance, and nothing of how it is since then.
            answers = _answers(word)
            if word.at >= since and answers is not None:
                (answering if answers else failing).add(observer.host)
        return ClientsWord(
            instance=instance,
            incarnation=incarnation,
            clients=len(hosts),
            # Where one of a host's observers is answered, the instance answers: what the others see is their own.
            failing=len(failing - answering),
            answering=len(answering),
        )

    def _sweep(self, now: float) -> None:
        """Forget what is old, so that observers that come and go under new names are not kept for ever."""
        self._swept_at = now
        for service, observers in list(self._services.items()):
            for name, observer in list(observers.items()):
                observer.words = {
                    instance: word for instance, word in observer.words.items() if now - word.at <= kept_seconds_max
                }
                if not observer.words:
                    del observers[name]
            if not observers:
                del self._services[service]
        self._words = sum(len(one.words) for some in self._services.values() for one in some.values())


def _answers(word: _Word) -> bool | None:
    """Whether the instance answers, by the newest calls; None: that cannot be told."""
    if word.failing == 0:
        return True
    return False if word.failing >= min(FAILING_MIN, word.attempts) else None
