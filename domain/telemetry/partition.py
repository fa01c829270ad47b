"""A partition of heartbeats, as a value that grows: records in, findings out. It knows no clock, no Kafka, no Faust.

    learn, restore     which instances there are, from the log
    beats              who is heard, from the topic; presence is found here
    observed           what clients saw of instances, from the topic: no sign of life, whatever it says
    tick               the time has come to that of this record: silence is found here, and nowhere else
    open               from here on findings are told: all that was before has been read

Silence is judged when a tick is *read*, by the instant at which it was recorded: all beats that were recorded before it have been
read by then, however late that is.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from zlib import crc32

from domain.message import Recorded
from domain.registry.instance import Instance, InstanceDeregistered, InstanceRegistered
from domain.registry.status import InstanceEvent
from domain.telemetry.finding import Suspicion
from domain.telemetry.observed import ObservedCalls
from domain.telemetry.partition_time import PartitionTime
from domain.telemetry.seen_calls import instance_rows
from domain.telemetry.service_load import WatchedService
from domain.telemetry.watched import NEVER, WatchedInstance, arrived, change, restored
from domain.telemetry.window import window_seconds
from muster.wire.stream import SERVICE, kind_of, name_of
from muster.wire.telemetry.heartbeats import Heartbeats
from muster.wire.telemetry.loads import ClientsWord, SeenInstances, ServiceLoad
from muster.wire.telemetry.observations import Observations

again_seconds: Final = 10.0
"""After so long what was told is told again, if the log does not show it: the command may have been lost."""

present_again_seconds: Final = 2.0

LEFT_OVER_MAX: Final = 1_024
"""Deadlines that hold no more which may be kept, beside as many as held when they were thrown out last."""

suspected_max: Final = 200
"""Of so many suspects the row of a service tells what clients say."""


class BeatsPartition:
    """The instances of a partition, when each was heard, and what each service has to do."""

    def __init__(self) -> None:
        self.passed = PartitionTime()
        self.services: dict[str, WatchedService] = {}
        self.calls = ObservedCalls()
        self.is_open = False
        self._deadlines: list[tuple[float, int, WatchedInstance]] = []
        self._entries = 0
        self._clear_at = LEFT_OVER_MAX

    def learn(self, recorded: Recorded) -> None:
        """Take in an event of the log; those of other things than services are passed over."""
        if kind_of(recorded.stream) != SERVICE or not isinstance(recorded.event, InstanceEvent):
            return
        service, event = name_of(recorded.stream), recorded.event
        if isinstance(event, InstanceRegistered):
            self._watch(arrived(service, event))
        elif (watched := self._found(service, event.instance)) is None:
            return
        elif isinstance(event, InstanceDeregistered):
            self._forget(watched)
        else:
            self.services[service].doubt(watched.name, event, self.passed.elapsed)
            if change(watched, event):
                # Whoever was silent here and is well all the same was heard another way, as by a report over HTTP: its next
                # silence is another one, with its full length, and another command.
                if watched.told != NEVER and not watched.unwell:
                    watched.heard_ms, watched.told = -1, NEVER
                self._changed(watched)

    def restore(self, instances: Iterable[Instance]) -> None:
        """The instances of a snapshot, before the first event."""
        for instance in instances:
            self._watch(restored(instance))
            if instance.suspect is not None:
                self.services[instance.service].doubted[instance.id] = self.passed.elapsed

    def beats(self, recorded_ms: int, told: Heartbeats) -> list[Suspicion]:
        """Take in a message; who of it is heard whom the log does not have as healthy."""
        now = self.passed.advance(recorded_ms)
        service = self.services.get(told.service)
        if service is None:
            return []
        found = []
        for watched in service.hear(told.beats, now, recorded_ms):
            if not watched.counted:
                service.count(watched)
                self._arm(watched)
            if watched.unwell and self._is_due(watched.told_present, present_again_seconds):
                watched.told_present = now
                found.append(Suspicion(told.service, watched.name, watched.incarnation, recorded_ms, silent=False))
        return found if self.is_open else []

    def observed(self, recorded_ms: int, told: Observations) -> None:
        """Take in what a client saw. It renews nothing: what somebody else has seen of an instance is no word of its own."""
        now = self.passed.advance(recorded_ms)
        service = self.services.get(told.service)
        if service is not None:
            self.calls.take(told, now, service.incarnation_of)

    def tick(self, recorded_ms: int) -> list[Suspicion]:
        """The time has come to this instant: whose time is over."""
        now = self.passed.advance(recorded_ms)
        found: list[Suspicion] = []
        while self.is_open and self._deadlines and self._deadlines[0][0] <= now:
            _, entry, watched = heapq.heappop(self._deadlines)
            # Left over from before: the instance is gone since, or has a newer entry.
            if entry == watched.entry:
                found.extend(self._judged(watched, now))
                self._arm(watched)
        return found

    def open(self) -> None:
        """All that was recorded before has been read. Who was not heard in that is listened for from here on, in full length."""
        self.is_open = True
        for service in self.services.values():
            for watched in service.instances.values():
                self._listen(watched)

    def loads(self) -> Iterator[ServiceLoad]:
        """The load of each service of which something was heard in the last 30 s, or its clients have told in the last 10 s."""
        now = self.passed.elapsed
        for name, service in self.services.items():
            calls = self.calls.calls(name, now)
            if not service.counted and calls is None:
                continue
            row = service.load(name, self.passed)
            yield row if calls is None else replace(calls.in_row(row), suspected=self._suspected(name, service, now))

    def instances(self, turn: int = 0, turns: int = 1) -> Iterator[SeenInstances]:
        """What clients saw of the instances of each service in the last 10 s; of those services whose turn it is."""
        now, at = self.passed.elapsed, datetime.fromtimestamp(max(self.passed.recorded_ms, 0) / 1000, UTC)
        for name, service in self.services.items():
            # By the name and not by the place in the list, which changes while services come and go.
            if crc32(name.encode()) % turns == turn and (seen := self.calls.instances(name, now)):
                yield SeenInstances(service=name, items=instance_rows(seen, service.in_flight_of), at=at)

    def counts(self) -> tuple[int, int]:
        """How many instances are watched, and how many of them are silent and still there."""
        watched = [one for service in self.services.values() for one in service.instances.values() if one.topic]
        return len(watched), sum(one.told != NEVER for one in watched)

    def _suspected(self, name: str, service: WatchedService, now: float) -> tuple[ClientsWord, ...]:
        words = [
            self.calls.word(name, instance, service.instances[instance].incarnation, since, now)
            for instance, since in service.doubted.items()
        ]
        # Who fails first: those are believed, and leave the others their places in the next row.
        words.sort(key=lambda word: word.failing, reverse=True)
        return tuple(words[:suspected_max])

    def _found(self, service: str, instance: str) -> WatchedInstance | None:
        found = self.services.get(service)
        return None if found is None else found.instances.get(instance)

    def _watch(self, watched: WatchedInstance) -> None:
        service = self.services.setdefault(watched.service, WatchedService())
        if (before := service.instances.get(watched.name)) is not None:
            self._forget(before)  # Only where the log is read anew: each incarnation is removed before the next.
            service = self.services.setdefault(watched.service, WatchedService())
        service.instances[watched.name] = watched
        self._changed(watched)

    def _forget(self, watched: WatchedInstance) -> None:
        service = self.services[watched.service]
        service.uncount(watched)
        service.doubted.pop(watched.name, None)
        watched.entry = 0
        del service.instances[watched.name]
        if not service.instances:
            del self.services[watched.service]

    def _changed(self, watched: WatchedInstance) -> None:
        """What is watched for has changed: as of now, if findings are told already."""
        if not watched.topic:
            self.services[watched.service].uncount(watched)
            # Once it beats by the topic again, it has all of its time from there on.
            watched.heard_ms, watched.entry, watched.told = -1, 0, NEVER
        elif self.is_open:
            self._listen(watched)

    def _listen(self, watched: WatchedInstance) -> None:
        if not watched.topic:
            return
        if watched.heard_ms < 0:
            watched.heard, watched.heard_ms = self.passed.elapsed, max(self.passed.recorded_ms, 0)
        self._arm(watched)

    def _arm(self, watched: WatchedInstance) -> None:
        """Look at the instance again when the first of its times is over."""
        deadline = min((self._deadline(watched, seconds) for seconds in self._lengths(watched)), default=None)
        if watched.counted:
            uncounted = watched.heard + window_seconds
            deadline = uncounted if deadline is None else min(deadline, uncounted)
        self._entries += 1
        watched.entry = 0 if deadline is None else self._entries
        if deadline is not None:
            heapq.heappush(self._deadlines, (deadline, watched.entry, watched))
        # An instance that is gone, or has changed, would be held until its lease is over, and that may be a day.
        if len(self._deadlines) > self._clear_at:
            self._deadlines = [each for each in self._deadlines if each[1] == each[2].entry]
            heapq.heapify(self._deadlines)
            self._clear_at = 2 * len(self._deadlines) + LEFT_OVER_MAX

    def _lengths(self, watched: WatchedInstance) -> Iterator[float]:
        if watched.lease_seconds is not None:
            yield watched.lease_seconds
        # A ttl check that is unhealthy already has nothing left to run out.
        yield from (seconds for name, seconds in watched.ttls.items() if watched.statuses[name] != "unhealthy")

    def _deadline(self, watched: WatchedInstance, seconds: float) -> float:
        over = watched.heard + seconds
        told = watched.told
        return over if told == NEVER or over > told else told + again_seconds

    def _judged(self, watched: WatchedInstance, now: float) -> Iterator[Suspicion]:
        """What is over for the instance, and was not told of this silence yet, or long ago."""
        if watched.counted and watched.heard + window_seconds <= now:
            self.services[watched.service].uncount(watched)
        told = watched.told
        for check, seconds in self._over(watched):
            if self._deadline(watched, seconds) <= now:
                told = now
                yield Suspicion(
                    watched.service, watched.name, watched.incarnation, watched.heard_ms, silent=True, check=check
                )
        watched.told = told

    def _over(self, watched: WatchedInstance) -> Iterator[tuple[str | None, float]]:
        for name, seconds in watched.ttls.items():
            if watched.statuses[name] != "unhealthy":
                yield name, seconds
        if watched.lease_seconds is not None:
            yield None, watched.lease_seconds

    def _is_due(self, told: float, seconds: float) -> bool:
        return told == NEVER or self.passed.elapsed - told >= seconds
