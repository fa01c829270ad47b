"""A host: its instances are registered, heard and told of together, for as long as their files want them.

Each turn does what is to be done, in this order: those leave that nobody wants any more, those are registered that are not (or as
something else), the health of those is said whose checks have come to another one, and all are heard, when it is time for that.
What a turn could not do, because no controller answered, the next one does: every command may be repeated.

All instances are held under the name of the host. A process that was killed and starts again finds its instances as they were.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from muster.client.client import Client
from muster.client.controllers.known import backoff_seconds
from muster.client.controllers.waiting import ControllerWait
from muster.client.registration import taken_out
from muster.wire.command import PublishedCommand
from muster.wire.error import MusterError, StaleIncarnation, Transient
from muster.wire.problem import error_from
from muster.wire.registry.answers import Outcome
from muster.wire.registry.spec import Spec
from muster.wire.telemetry.heard import UnheardInstance
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from workers.host.beats import PlacedHeartbeats
from workers.host.checks import LocalChecks, LocalHealth
from workers.host.config import HostInstance, Key
from workers.host.held import HeldInstance

message_beats_max: Final = 500
request_beats_max: Final = 5_000
check_in_seconds: Final = 30.0
"""How often controllers are asked whether they know the instances, where heartbeats go by the topic, which answers nothing."""
_BEATS_A_LEASE: Final = 3
_LOG: Final = logging.getLogger("muster.host")


class BeatsTopic(Protocol):
    """Where heartbeats go, if not to a controller."""

    async def send(self, placed: Sequence[PlacedHeartbeats]) -> None:
        """Publish them. Raises Timeout."""


class Host:
    """The instances of the host named `agent`. `topic`: their heartbeats go there; None: to the controllers."""

    def __init__(self, client: Client, agent: str, topic: BeatsTopic | None = None) -> None:
        self.held: dict[Key, HeldInstance] = {}
        self._client, self._agent, self._topic = client, agent, topic
        self._leaving: dict[Key, HeldInstance] = {}
        self._wake = asyncio.Event()
        self.checks = LocalChecks(self._wake.set)
        self._beat_at = self._check_in_at = 0.0

    @property
    def _actor(self) -> str:
        return f"host {self._agent}"

    def want(self, wanted: Mapping[Key, HostInstance]) -> None:
        """From now on these are to be here, and no others."""
        for key in self.held.keys() - wanted.keys():
            self._leaving[key] = self.held.pop(key)
            self.checks.drop(key)
        for key, one in wanted.items():
            held = self.held.get(key)
            if held is None:
                # It may still be on its way out.
                held = self.held[key] = self._leaving.pop(key) if key in self._leaving else HeldInstance(one)
            # What was given up has another chance, since whoever looks after the files has looked at it.
            if held.wanted != one:
                held.wanted, held.over = one, None
            self.checks.keep(one)
        self._wake.set()

    async def run(self) -> None:
        """Keep them here, and check them, until cancelled. Raises what the controllers refuse of the host as a whole."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.checks.run(), name="checks")
                tasks.create_task(self._keep(), name="instances")
        except* MusterError as errors:
            # One of them, since the other one ends by it: a cluster that is another one, say.
            raise errors.exceptions[0] from None

    async def leave(self) -> None:
        """Take all of them out. Raises what the client raises: they stay then until their leases are over."""
        # What was given up is somebody else's, or gone.
        gone = [held for held in (*self.held.values(), *self._leaving.values()) if held.over is None]
        await self._client.commands([held.leave(self._agent, self._actor) for held in gone])

    def _asked(self) -> tuple[str, ...]:
        return self._client.urls if self._topic is None else (*self._client.urls, "Kafka")

    async def _keep(self) -> None:
        tries, wait = 0, ControllerWait(_LOG, f"{self._agent} is not heard", self._asked)
        while True:
            self._wake.clear()
            try:
                with wait.asking():
                    await self._turn()
                tries, again_at = 0, self._beat_at
            except Transient:
                tries, again_at = tries + 1, time.monotonic() + backoff_seconds(tries)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, again_at - time.monotonic())):
                    await self._wake.wait()

    async def _turn(self) -> None:
        await self._let_go()
        await self._register()
        await self._report()
        if time.monotonic() >= self._beat_at:
            await self._beat()
            # Behind it: where nobody answers it is tried again before its time.
            self._beat_at = time.monotonic() + self._pace_seconds()

    def _pace_seconds(self) -> float:
        return (
            min((held.wanted.lease_seconds for held in self.held.values()), default=check_in_seconds) / _BEATS_A_LEASE
        )

    async def _let_go(self) -> None:
        gone = [held for held in self._leaving.values() if held.over is None]
        if gone:
            await self._client.commands([held.leave(self._agent, self._actor) for held in gone])
        for held in gone:
            self._leaving.pop(held.key, None)
            _LOG.info("%s/%s is not wanted here any more", *held.key)

    async def _register(self) -> None:
        due = [(held, held.wanted.spec) for held in self.held.values() if held.due]
        if not due:
            return
        listed = await self._listed({held.wanted.service for held, _ in due})
        given: list[tuple[HeldInstance, LocalHealth | None, PublishedCommand]] = []
        for held, _ in due:
            given.append((held, None, held.registration(self._agent, self._actor)))
            health = self.checks.health(held.key)
            # Whoever is new must not be offered before it was checked: both are decided together. Of whoever is there already
            # others have known how it is, from the process before this one.
            if held.key not in listed and health is not None:
                given.append((held, health, held.report(health, self._agent, self._actor)))
        specs = {held.key: spec for held, spec in due}
        outcomes = await self._client.commands([command for *_, command in given])
        for (held, health, _), outcome in zip(given, outcomes, strict=True):
            if health is None:
                self._registered(held, specs[held.key], outcome)
            elif outcome.error is None:
                held.told = health.status

    async def _listed(self, services: set[str]) -> set[Key]:
        """The instances of these services that controllers know."""
        pages = {service: await self._client.instances(service) for service in services}
        return {(service, one.instance) for service, page in pages.items() for one in page.items}

    def _registered(self, held: HeldInstance, spec: Spec, outcome: Outcome) -> None:
        if outcome.status in ("accepted", "unchanged"):
            held.taken(spec, outcome)
            _LOG.info("%s/%s is registered, incarnation %s", *held.key, outcome.incarnation)
        # An unknown outcome is asked for again in the next turn.
        elif outcome.status == "refused" and outcome.error is not None:
            error = error_from(outcome.error)
            why = "another process has registered under its name" if isinstance(error, StaleIncarnation) else "refused"
            self._give_up(held, f"{why}: {error.detail}")

    async def _report(self) -> None:
        """Say how those are of whom something else was said."""
        given = []
        for held in self.held.values():
            health = self.checks.health(held.key)
            if health is None and held.told == "unhealthy":
                health = LocalHealth("healthy", "it has no checks any more")
            # What is not known yet takes nobody out who was checked before, by a process that has ended or by other checks.
            if held.incarnation is not None and health is not None and health.status not in ("unknown", held.told):
                given.append((held, health))
        commands = [held.report(health, self._agent, self._actor) for held, health in given]
        for (held, health), outcome in zip(given, await self._client.commands(commands), strict=True):
            if outcome.status in ("accepted", "unchanged"):
                held.told = health.status
                _LOG.info("%s/%s is %s: %s", *held.key, health.status, health.cause)

    async def _beat(self) -> None:
        held = {one.key: one for one in self.held.values() if one.incarnation is not None}
        by_service: dict[str, list[HeldInstance]] = {}
        for one in held.values():
            by_service.setdefault(one.wanted.service, []).append(one)
        messages = [message for some in by_service.values() for message in self._messages(some)]
        if self._topic is not None:
            # Nobody answers there, so who was taken out would not be noticed by it.
            await self._topic.send(messages)
            if time.monotonic() < self._check_in_at:
                return
            self._check_in_at = time.monotonic() + check_in_seconds
        a_request = request_beats_max // message_beats_max
        for first in range(0, len(messages), a_request):
            some = [message for _, message in messages[first : first + a_request]]
            heard = await self._client.heartbeats(some, timeout_seconds=max(1.0, self._pace_seconds()))
            for unheard in heard.refused:
                await self._unheard(held[unheard.service, unheard.instance], unheard)

    def _messages(self, held: Sequence[HeldInstance]) -> Iterator[PlacedHeartbeats]:
        for first in range(0, len(held), message_beats_max):
            some = held[first : first + message_beats_max]
            beats = [Beat(one.key[1], one.incarnation) for one in some if one.incarnation is not None]
            yield PlacedHeartbeats(some[0].partition or 0, Heartbeats(self._agent, some[0].wanted.service, beats))

    async def _unheard(self, held: HeldInstance, unheard: UnheardInstance) -> None:
        error = error_from(unheard.error)
        # A partition without a writer: the next beat finds one.
        if isinstance(error, Transient):
            _LOG.warning("%s/%s was not heard: %s", *held.key, error.detail)
            return
        if not isinstance(error, StaleIncarnation) and await taken_out(self._client, *held.key):
            self._give_up(held, "it was deregistered on request")
            return
        _LOG.warning("%s/%s is to be registered again: %s", *held.key, error.detail)
        held.lost()
        self._wake.set()

    def _give_up(self, held: HeldInstance, why: str) -> None:
        held.over, held.incarnation = why, None
        _LOG.error("%s/%s is left alone until its files say something else: %s", *held.key, why)
