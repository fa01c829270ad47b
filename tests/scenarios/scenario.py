"""Plays scenario transcripts: a command line, `----`, and everything that can be observed.

register orders/a port=8080 lease=30 check=ttl:5 tags=blue,red id=1 version=0 actor=ann reason=…
report orders/a status=unhealthy cause=disk-full · observe orders/a check=http status=healthy
deregister · heartbeat · maintenance · clear · drain · undrain      orders/a [incarnation=N]
pass 6        so many seconds pass, and what runs out is recorded
restart       another controller folds the log and takes over
discover orders
"""

import shlex
from datetime import datetime, timedelta
from typing import Any

from domain.message import Event, Recorded, schema_of
from domain.registry import service as s
from muster.wire.command import Command, Envelope
from muster.wire.error import MusterError
from tests.machine import Machine, facts
from tests.sample import NOON
from workers.machine.group import Group
from workers.machine.partition import Partition
from workers.views.views import Views

COMMANDS = {
    "deregister": s.DeregisterInstance,
    "report": s.ReportHealth,
    "heartbeat": s.Heartbeat,
    "maintenance": s.SetMaintenance,
    "clear": s.ClearMaintenance,
    "drain": s.DrainInstance,
    "undrain": s.UndrainInstance,
}
ENVELOPE = ("id", "version", "actor", "reason")


def shown(event: Event, exclude: set[str]) -> str:
    """The event's data as a transcript has it: without these fields, and without what is as by default."""
    return schema_of(type(event)).dump_json(event, exclude_defaults=True, exclude=exclude).decode()


class Scenario(Machine):
    """A machine with views, and the transcript of what it was told."""

    def __init__(self) -> None:
        self.views = Views([0])
        self.count = 0
        super().__init__()

    def play(self, line: str) -> str:
        """What is observed when the line is played."""
        word, *rest = shlex.split(line)
        match word:
            case "pass":
                return _lines(self._told(self.passes(float(rest[0]))))
            case "restart":
                return self._restart()
            case "discover":
                return self._discover(rest[0])
            case "observe":
                return self._observe(rest[0], _options(rest[1:]))
        return self._ask(word, rest[0], _options(rest[1:]))

    def commit(self, group: Group) -> list[Recorded]:
        recorded = super().commit(group)
        self.views.apply(0, self.folded, self.partition.cursor)
        return recorded

    def follow(self, partition: Partition) -> Partition:
        followed = super().follow(partition)
        if followed is self.partition:
            self.views.apply(0, (), followed.cursor)
        return followed

    def _ask(self, word: str, subject: str, options: dict[str, Any]) -> str:
        self.count += 1
        service, instance = subject.split("/")
        about = {name: options.pop(name) for name in ENVELOPE if name in options}
        envelope = Envelope(
            about.get("id", f"#{self.count}"),
            f"service/{service}",
            _command(word, instance, options),
            about.get("actor", "ann"),
            about.get("reason"),
            int(about["version"]) if "version" in about else None,
        )
        group = self.step(envelope, now=self._now)
        [answer] = group.answers
        recorded = self.commit(group)
        told = f"{answer.status} at {answer.position}"
        if answer.error:
            told = f"refused {answer.error['name']}: {answer.error['detail']}"
        elif answer.version is not None:
            told += f", version {answer.version}, incarnation {answer.incarnation}"
        return _lines([f"{told}{' (repeat)' if answer.duplicate else ''}", *self._told(recorded)])

    def _observe(self, subject: str, options: dict[str, Any]) -> str:
        service, instance = subject.split("/")
        incarnation = self.partition.streams[f"service/{service}"].instances[instance].incarnation
        command = s.ObserveCheck.model_validate({"instance": instance, "incarnation": incarnation, **options})
        return _lines(self._told(self.commit(self.observe(f"service/{service}", command, self._now))))

    @property
    def _now(self) -> datetime:
        return NOON + timedelta(seconds=self.monotonic)

    def _restart(self) -> str:
        before, recovered = facts(self.partition), self.recovered()
        same = facts(recovered) == before
        self.claims(f"w{recovered.cursor.term + 1}", recovered)
        return f"{'the same' if same else 'ANOTHER'} state, term {self.partition.cursor.term}\n"

    def _discover(self, service: str) -> str:
        try:
            return _lines(instance.id for instance in self.views.registry.discover(service))
        except MusterError as error:
            return f"{error.name}: {error.detail}\n"

    def _told(self, recorded: list[Recorded]) -> list[str]:
        """Each event with its place, and the rows after them."""
        lines = []
        for told in recorded:
            data = shown(told.event, exclude={"instance"})
            lines.append(f"@{told.position} v{told.version} {type(told.event).__name__} {data}")
        keys = dict.fromkeys((told.stream.removeprefix("service/"), told.event.instance) for told in recorded)
        return lines + [self._row(service, instance) for service, instance in keys]

    def _row(self, service: str, instance: str) -> str:
        told = self.views.instances.get(service, {}).get(instance)
        if told is None:
            return f"{service}/{instance}: gone, {self.views.history[service, instance].events} events"
        checks = "".join(f", {name} {check.status}" for name, check in told.checks.items())
        marks = [
            f", {name} by {mark.actor}" + (f": {mark.reason}" if mark.reason else "")
            for name, mark in (("maintenance", told.maintenance), ("draining", told.draining))
            if mark is not None
        ]
        cause = f" ({told.cause})" if told.cause else ""
        return f"{service}/{instance}: {told.health}{cause}{checks}{''.join(marks)}" + (
            ", discoverable" if told.discoverable else ""
        )


def _lines(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines) or "nothing\n"


def _options(words: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name == "check" and ":" in value:
            options.setdefault("checks", []).append(value)
        else:
            options[name] = value
    return options


def _command(word: str, instance: str, options: dict[str, Any]) -> Command:
    if word != "register":
        for number in options.keys() & {"incarnation"}:
            options[number] = int(options[number])
        return COMMANDS[word].model_validate({"instance": instance, **options})
    options["checks"] = [_check(text) for text in options.get("checks", [])]
    options["tags"] = [tag for tag in options.get("tags", "").split(",") if tag]
    options["metadata"] = dict(pair.split(":") for pair in options.get("metadata", "").split(",") if pair)
    for short, long in (("lease", "lease_seconds"), ("deregister_after", "deregister_after_seconds")):
        if short in options:
            options[long] = float(options.pop(short))
    for number in options.keys() & {"port", "weight"}:
        options[number] = int(options[number])
    spec = {"address": "10.0.0.7", "port": 8080, **options}
    return s.RegisterInstance.model_validate({"instance": instance, "spec": spec})


def _check(text: str) -> dict[str, Any]:
    kind, _, detail = text.partition(":")
    match kind:
        case "ttl":
            return {"kind": kind, "ttl_seconds": float(detail)}
        case "tcp":
            return {"kind": kind, "host": "10.0.0.7", "port": int(detail)}
        case _:
            return {"kind": "http", "url": f"http://10.0.0.7{detail}"}
