"""What telemetry says of the instances whose heartbeats come by Kafka's topic: who has fallen silent, who is heard again.

Telemetry only counts beats, and suspects; what becomes of an instance is decided here, on the service as it stands. One command
says all that one message, or one tick, has changed. What it says of others than those that it is to watch is late as a rule, and
passed over: the rest of the command is true all the same. So is a repeat, which finds all as it says.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from domain.message import foreseen
from domain.registry.health import expired, heard, overdue
from domain.registry.instance import Instance, ServiceEvent
from domain.registry.instance import evolve as evolve_instance
from domain.registry.versions import Service
from muster.wire.command import Command, Instant, Whole
from muster.wire.registry.check import TtlCheck
from muster.wire.stream import Name, service_stream
from muster.wire.value import value

entries_max: Final = 100
"""How many silent ones, and how many that are heard again, one command may name."""


@value(kw_only=True)
class Silence:
    """Nothing was heard of this incarnation since the instant at which Kafka recorded its last beat.

    `check` names the ttl check that is over; None: the lease is.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    instance: Name
    incarnation: Whole
    since: Instant
    check: Name | None = None


@value(kw_only=True)
class BeatHeard:
    """This incarnation is heard; `at` is when Kafka recorded the beat."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    instance: Name
    incarnation: Whole
    at: Instant


class ReportSilence(Command):
    """Say who has fallen silent, and who is heard, of those whose heartbeats come by the topic; others are passed over."""

    type = "muster.instance.report_silence.v1"
    # It is about no single instance; the partition asks each command for one.
    instance: ClassVar[str] = ""
    silent: Annotated[tuple[Silence, ...], Field(max_length=entries_max)] = ()
    present: Annotated[tuple[BeatHeard, ...], Field(max_length=entries_max)] = ()


def reported(command: ReportSilence, state: Service) -> list[ServiceEvent]:
    """What the command makes happen: what would have, had the writer's own timers run out, or heartbeats come to it."""
    events: list[ServiceEvent] = []
    # Each is decided on what those before it have changed: two checks of one instance can be over at once.
    seen: dict[str, Instance | None] = {}
    for entry in _entries(command):
        instance = seen.get(entry.instance, state.instances.get(entry.instance))
        if instance is None or instance.incarnation != entry.incarnation or instance.spec.heartbeats != "topic":
            continue
        for event in _of(entry, instance):
            events.append(event)
            instance = instance and evolve_instance(
                instance, foreseen(service_stream(instance.service), instance.version + 1, event)
            )
        seen[entry.instance] = instance
    return events


def _entries(command: ReportSilence) -> Iterator[Silence | BeatHeard]:
    # Who is heard is not silent, whatever the order was: a repeat of the command must find nothing left to do.
    present = {entry.instance for entry in command.present}
    yield from (entry for entry in command.silent if entry.instance not in present)
    yield from command.present


def _of(entry: Silence | BeatHeard, instance: Instance) -> list[ServiceEvent]:
    if isinstance(entry, BeatHeard):
        return heard(instance)
    if entry.check is None:
        return expired(instance)
    # The spec may have lost the check since telemetry read it, or it may be no ttl check any more.
    known = any(isinstance(check, TtlCheck) and check.name == entry.check for check in instance.spec.checks)
    return overdue(instance, entry.check) if known else []
