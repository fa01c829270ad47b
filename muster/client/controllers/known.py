"""Which controllers a client knows, and in which order a call asks them. No I/O.

    given, in their order ──▶ learned from one of them ──▶ those that failed last
       ▲ the one that answered last stands before all others

A call asks one controller after the other, each once: those that refuse the connection cost no time, a silent one the attempt's
limit. Only when all have failed it pauses, longer from round to round, and begins again. It never asks two at a time: a write
that may have reached one of them goes on at the next one with the same command id, which is decided once.
"""

import logging
import math
import random
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from operator import itemgetter
from typing import Final
from urllib.parse import urlsplit

from muster.wire.backoff import pause_seconds
from muster.wire.controllers import controllers_max, is_url
from muster.wire.error import MusterError, Transient, Unreachable

BACKOFF_FIRST_SECONDS: Final = 0.05
BACKOFF_MAX_SECONDS: Final = 1.0
_LOG: Final = logging.getLogger("muster.client")


class Misdirected(Exception):
    """Who answers is not the controller that is meant: another one may be. `error` is what to raise if none is."""

    def __init__(self, error: MusterError) -> None:
        super().__init__(error.detail)
        self.error = error


class KnownControllers:
    """The controllers of one client: those that it was given, and those that it has learned of since."""

    def __init__(self, given: Sequence[str]) -> None:
        self.given = tuple(given)
        self._order = list(self.given)
        self._answered: str | None = None

    @property
    def first(self) -> str:
        """The one that is asked first: the one that answered last."""
        return self._order[0]

    @property
    def urls(self) -> tuple[str, ...]:
        """All of them, in the order in which a call asks them."""
        return tuple(self._order)

    def answered(self, url: str) -> None:
        """It is asked first from now on."""
        if self._answered not in (None, url):
            _LOG.info("the controller at %s answers; before, it was %s", url, self._answered)
        self._answered = url
        if self._order[0] != url and url in self._order:
            self._order.remove(url)
            self._order.insert(0, url)

    def failed(self, url: str) -> None:
        """It is asked last from now on: calls that begin meanwhile need not find out by themselves."""
        if url in self._order:
            self._order.remove(url)
            self._order.append(url)

    def learn(self, asked: str, urls: Iterable[str]) -> None:
        """The controller at `asked` has named these as the live ones; they take the place of those learned before."""
        told = [url.rstrip("/") for url in urls if _may_follow(asked, url)][:controllers_max]
        # Nobody has named any: it has the log for itself, or does not hear the others now. What is known stays.
        if told:
            kept = [url for url in self._order if url in self.given or url in told]
            before, self._order = set(self._order), kept + [url for url in dict.fromkeys(told) if url not in kept]
            if before != set(self._order):
                _LOG.info("the controllers are now %s", ", ".join(self._order))


class Way:
    """The way of one call along the controllers, round after round."""

    def __init__(self, known: KnownControllers) -> None:
        self._known = known
        self._failed: set[str] = set()
        self._may_pass = False
        self._rounds = 0
        self._newest: dict[str, tuple[int, MusterError]] = {}

    @property
    def url(self) -> str:
        """The controller to ask now."""
        return next((url for url in self._known.urls if url not in self._failed), self._known.first)

    @property
    def is_last(self) -> bool:
        """Whether all others have failed in this round."""
        return all(url in self._failed or url == self.url for url in self._known.urls)

    @property
    def trouble(self) -> MusterError:
        """What their newest failures come to: what a controller answers counts for more than that another one is away."""
        _, error = max(reversed(self._newest.values()), key=itemgetter(0))
        return error

    def answered(self, url: str) -> None:
        """The call has come to its end there."""
        self._known.answered(url)

    def failed(self, url: str, failure: Transient | Misdirected) -> float:
        """It did not answer there. Returns the pause before the next try; none while another controller is left to ask.

        It is without end when no controller of this round was one that is meant: waiting mends nothing.
        """
        may_pass, error = (False, failure.error) if isinstance(failure, Misdirected) else (True, failure)
        self._newest.pop(url, None)
        self._newest[url] = (0 if not may_pass else 1 if isinstance(error, Unreachable) else 2, error)
        self._failed.add(url)
        self._may_pass = self._may_pass or may_pass
        self._known.failed(url)
        if any(one not in self._failed for one in self._known.urls):
            return 0.0
        if not self._may_pass:
            return math.inf
        pause = backoff_seconds(self._rounds)
        self._failed, self._may_pass, self._rounds = set(), False, self._rounds + 1
        return pause


def backoff_seconds(tries: int) -> float:
    """A random pause that doubles with the tries: half to all of 50 ms, 100 ms, … up to 1 s."""
    return pause_seconds(tries, BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS, random.random())


def _may_follow(asked: str, url: str) -> bool:
    """Whether a client that asked there may be sent here. Who asks over https is not sent to http, nor with a password; and
    `127.0.0.1` in an answer from elsewhere is the other's own machine.
    """
    if not is_url(url):
        return False
    here, there = urlsplit(asked), urlsplit(url)
    return (
        here.scheme == there.scheme
        and "@" not in there.netloc
        and (is_own(here.hostname) or not is_own(there.hostname))
    )


def is_own(host: str | None) -> bool:
    """Whether the host is this very machine, for whoever reads its name."""
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"
